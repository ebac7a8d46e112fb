import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { freePort } from '../../../../../test/support/free-port.ts';
import { createGuestClient, type GuestClient } from '../guest-client.ts';

const AGENT = join(import.meta.dirname, '..', '..', '..', '..', 'guest-agent', 'src', 'main.ts');

export interface NativeAgent {
  readonly guest: GuestClient;
  readonly pid: number;
  /** For the test to work in. */
  readonly folder: string;
}

/** The real guest agent as an ordinary process, ready but without an /init; gone with the test. */
export async function startNativeAgent(t: TestContext): Promise<NativeAgent> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-native-'));
  const port = await freePort();
  const agent = spawn(
    process.execPath,
    [AGENT, '--listen', `127.0.0.1:${port}`, '--runtime-dir', join(folder, 'run'), '--no-port-forwarding'],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const guest = createGuestClient({ address: '127.0.0.1', port, accessToken: 'secret' });
  t.after(async () => {
    guest.close();
    const ended = once(agent, 'exit');
    agent.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  });
  await guest.waitUntilReady(60_000);
  return { guest, pid: agent.pid ?? 0, folder };
}
