import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { EventQueue } from '../rpc/event-queue.ts';
import type { SystemUser } from '../users.ts';
import { ChildReaper } from './child-reaper.ts';
import { Launcher, type LaunchRequest } from './launcher.ts';
import { keepAliveMessage, type ProcessMessage } from './process-event.ts';
import { Processes } from './processes.ts';

const ROOT: SystemUser = { name: 'root', uid: 0, gid: 0, groups: [0], home: '/root', shell: '/bin/sh' };
const OTHER: SystemUser = { ...ROOT, name: 'other', uid: 54_321, gid: 54_322, groups: [54_322, 7, 4, 27] };
const needsRoot = process.getuid?.() !== 0 && 'needs root';

function request(cmd: string, args: string[], change: Partial<LaunchRequest> = {}): LaunchRequest {
  return {
    description: { cmd, args, envs: {}, cwd: undefined, tag: undefined },
    user: ROOT,
    cwd: '/',
    environment: new Map([['PATH', '/usr/bin:/bin']]),
    terminalSize: undefined,
    stdin: false,
    ...change,
  };
}

/** Runs to the end; answers the output of every stream together, and the exit code. */
async function run(t: TestContext, wanted: LaunchRequest, groups?: ConstructorParameters<typeof Launcher>[0]) {
  const reaper = new ChildReaper({ reapsOrphans: false });
  t.after(() => reaper[Symbol.dispose]());
  const queue = new EventQueue<ProcessMessage>();
  const { signal } = new AbortController();
  new Processes(new Launcher(groups), reaper).start(wanted, undefined, queue, signal);
  let output = '';
  let exitCode: number | undefined;
  for await (const { event } of queue.read(signal, { intervalMs: 100_000, message: keepAliveMessage })) {
    if (event.event.case === 'data') output += Buffer.from(event.event.value.output.value).toString();
    if (event.event.case === 'end') exitCode = event.event.value.exitCode;
  }
  return { output, exitCode };
}

for (const terminalSize of [undefined, { cols: 80, rows: 24 }]) {
  const where = terminalSize === undefined ? 'pipes' : 'a terminal';
  test(`a process on ${where} has the user’s ids, every supplementary group, and no capability`, {
    skip: needsRoot,
  }, async (t) => {
    const { output } = await run(
      t,
      request('grep', ['-E', '^(Uid|Gid|Groups|CapEff|CapPrm|CapAmb)', '/proc/self/status'], {
        user: OTHER,
        terminalSize,
      }),
    );
    assert.deepEqual(
      output
        .replaceAll('\r', '')
        .replaceAll('\t', ' ')
        .trimEnd()
        .split('\n')
        .map((line) => line.trimEnd()),
      [
        'Uid: 54321 54321 54321 54321',
        'Gid: 54322 54322 54322 54322',
        'Groups: 4 7 27 54322',
        `CapPrm: ${'0'.repeat(16)}`,
        `CapEff: ${'0'.repeat(16)}`,
        `CapAmb: ${'0'.repeat(16)}`,
      ],
    );
  });
}

test('a file without a known format is run by the shell, as execvp does', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nestbox-script-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const script = join(dir, 'script');
  await writeFile(script, 'echo "script with $1"; exit 7\n');
  await chmod(script, 0o755);
  assert.deepEqual(await run(t, request(script, ['argument'])), { output: 'script with argument\n', exitCode: 7 });
});

test('a script whose interpreter is missing ends with 127', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nestbox-script-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const script = join(dir, 'script');
  await writeFile(script, '#!/no/such/interpreter\n');
  await chmod(script, 0o755);
  assert.deepEqual(await run(t, request(script, [])), { output: `exec: ${script}: not found\n`, exitCode: 127 });
});

test('a process is placed in the group for its kind, those of the system in none', async (t) => {
  const placed: string[] = [];
  const groups = { place: (_pid: number, group: string) => void placed.push(group) };
  await run(t, request('true', []), groups);
  await run(t, request('true', [], { terminalSize: { cols: 1, rows: 1 } }), groups);
  const system = request('true', []);
  await run(t, { ...system, description: { ...system.description, tag: '_system' } }, groups);
  assert.deepEqual(placed, ['user', 'ptys']);
});

test('a command is the first to go when memory runs out, before the agent', async (t) => {
  // The score is set from outside, right after the start.
  const { output } = await run(t, request('sh', ['-c', 'sleep 0.1; cat /proc/self/oom_score_adj']));
  assert.equal(output, '100\n');
});

test('a terminal whose output was flushed away before anybody read it still ends', async (t) => {
  const flush =
    'import sys, termios; sys.stdout.write("x" * 3000); sys.stdout.flush(); termios.tcflush(1, termios.TCIOFLUSH)';
  const { exitCode } = await run(
    t,
    request('/usr/bin/python3', ['-c', flush], { terminalSize: { cols: 80, rows: 24 } }),
  );
  assert.equal(exitCode, 0);
});
