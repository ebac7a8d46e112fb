import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '@nestbox/kit';
import { z } from 'zod';
import { TEST_API_KEY } from '../../../packages/control-plane/src/testing/start-test-server.ts';
import { makeTestHost } from '../../../packages/host-agent/src/testing/test-host.ts';
import { fakeRunFiles } from '../../../packages/host-agent/src/vmm/fake/fake-state.ts';
import { answerOf } from '../answer-of.ts';
import { recordedStates } from './recorded-states.ts';
import { DISK_PLACES, type WalkStage } from './walk-stage.ts';

const FAKE_SERVER = join(import.meta.dirname, 'fake-server.ts');
/** In clusters of their own. */
const PLACE_BYTES = 2 ** 17;
const WRITTEN_BYTES = 4096;
const LOCK_WAIT_MS = 10_000;

export interface FakeStage extends WalkStage {
  /** Processes and files that are there; to be asked when no server runs. */
  leftovers(): Promise<string[]>;
}

/** A server whose VMs are processes. Everything goes with the test. */
export async function startFakeStage(t: TestContext): Promise<FakeStage> {
  let server: { readonly child: ChildProcess; readonly apiUrl: string } | undefined;
  const running = () => {
    if (server === undefined) throw new Error('no server runs');
    return server;
  };
  // Before the test host's own, which takes the folders away.
  t.after(async () => {
    if (server !== undefined) await end('SIGKILL');
  });
  const testHost = await makeTestHost(t);
  const { layout, paths } = testHost;
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    const { child } = running();
    server = undefined;
    const exited = once(child, 'exit');
    child.kill(signal);
    const [exitCode] = await exited;
    if (signal === 'SIGTERM') assert.equal(exitCode, 0, 'the server did not end in order');
  };
  const start = async () => {
    const child = fork(FAKE_SERVER, [paths.stateDir, paths.runDir, paths.instance]);
    const died = once(child, 'exit').then(([code]) => assert.fail(`the server ended before it was ready: ${code}`));
    died.catch(() => {});
    const [apiUrl] = await Promise.race([once(child, 'message'), died]);
    server = { child, apiUrl: z.string().parse(apiUrl) };
  };
  await start();
  const memoryOf = (sandboxId: string) => testHost.memoryOf(sandboxId);
  const diskOf = (sandboxId: string) => readFile(fakeRunFiles(layout.sandboxRunDir(sandboxId)).disk, 'utf8');
  return {
    end,
    start,
    call(method, path, body) {
      const { apiUrl } = running();
      return answerOf(apiUrl, TEST_API_KEY, method, path, body);
    },
    remember: (sandboxId, word) => memoryOf(sandboxId).write(word),
    // A fake guest writes to no disk, so it is done from outside: in the layer in use, above those that others have too.
    async write(sandboxId, place, value) {
      const command = `write -P ${value} ${place * PLACE_BYTES} ${WRITTEN_BYTES}`;
      await whenUnlocked(async () => runCommand('qemu-io', ['-f', 'qcow2', '-c', command, await diskOf(sandboxId)]));
    },
    async read(sandboxId) {
      const commands = Array.from({ length: DISK_PLACES }, (_, place) => ['-c', `read -v ${place * PLACE_BYTES} 16`]);
      const { stdout } = await whenUnlocked(async () =>
        runCommand('qemu-io', ['-r', '-f', 'qcow2', ...commands.flat(), await diskOf(sandboxId)]),
      );
      const bytes = [...stdout.matchAll(/^[0-9a-f]{8}: {2}([0-9a-f]{2}) /gm)].map(([, hex]) =>
        Number.parseInt(hex ?? '', 16),
      );
      assert.equal(bytes.length, DISK_PLACES, stdout);
      return { memory: await memoryOf(sandboxId).read(), disk: bytes };
    },
    recordedStates: () => recordedStates(paths.stateDir),
    leftovers: () => testHost.leftovers(),
  };
}

/** In the background the host merges layers, and meanwhile has their locks. */
async function whenUnlocked<T>(action: () => Promise<T>): Promise<T> {
  for (const endsAt = performance.now() + LOCK_WAIT_MS; ; await sleep(20))
    try {
      return await action();
    } catch (error) {
      const isLocked = error instanceof Error && /lock/i.test(error.message);
      if (!isLocked || performance.now() > endsAt) throw error;
    }
}
