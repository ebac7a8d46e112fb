import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NESTBOX_VERSION } from '@nestbox/contract';
import { runNestbox } from '../support/nestbox-command.ts';

async function emptyFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-empty-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const COMMANDS = [
  [],
  ['up'],
  ['env'],
  ['doctor'],
  ['setup'],
  ['run'],
  ['sandbox'],
  ['sandbox', 'create'],
  ['sandbox', 'list'],
  ['sandbox', 'info'],
  ['sandbox', 'exec'],
  ['sandbox', 'shell'],
  ['sandbox', 'kill'],
  ['sandbox', 'pause'],
  ['sandbox', 'resume'],
  ['sandbox', 'fork'],
  ['sandbox', 'snapshot'],
  ['sandbox', 'logs'],
  ['sandbox', 'metrics'],
  ['key'],
  ['key', 'create'],
  ['key', 'list'],
  ['key', 'rename'],
  ['key', 'revoke'],
  ['team'],
  ['team', 'create'],
  ['team', 'list'],
  ['team', 'limit'],
  ['team', 'rename'],
  ['team', 'delete'],
  ['node'],
  ['node', 'list'],
  ['node', 'info'],
  ['node', 'drain'],
  ['node', 'standby'],
  ['node', 'ready'],
  ['snapshot'],
  ['snapshot', 'list'],
  ['snapshot', 'delete'],
  ['audit'],
  ['disk'],
  ['trace'],
  ['template'],
  ['template', 'list'],
  ['version'],
];

test('every command explains itself on standard output', async () => {
  for (const command of COMMANDS) {
    const { exitCode, stdout, stderr } = await runNestbox([...command, '--help'], {});
    assert.deepEqual([exitCode, stderr], [0, ''], command.join(' '));
    assert.match(stdout.toString(), new RegExp(`^Usage: nestbox ${command.join(' ')}`));
    const hasSubcommands =
      command.length === 0 || ['sandbox', 'snapshot', 'template', 'key', 'team', 'node'].includes(command.join(' '));
    if (!hasSubcommands) assert.match(stdout.toString(), /--json/, command.join(' '));
  }
});

test('words that make no sense are refused with exit code 2, as text and as JSON', async () => {
  const nonsense = [
    ['fly'],
    ['up', '--no-such-option'],
    ['up', 'extra'],
    ['up', '--port', '-1'],
    ['up', '--port', '70000'],
    ['up', '--log-level', 'loud'],
    ['run'],
    ['run', '--timeout', '0', '--', 'true'],
    ['run', '--env', 'novalue', '--', 'true'],
    ['sandbox'],
    ['sandbox', 'info'],
    ['sandbox', 'kill'],
    ['sandbox', 'create', '--timeout', 'soon'],
    ['sandbox', 'exec', 'only-an-id'],
  ];
  for (const words of nonsense) {
    const asText = await runNestbox(words, {});
    assert.deepEqual([asText.exitCode, asText.stdout.length], [2, 0], words.join(' '));
    assert.match(asText.stderr, /nestbox: .+ \[usage\]\n$/, words.join(' '));
  }
  const asJson = await runNestbox(['up', '--json', '--port', 'x'], {});
  assert.equal(asJson.exitCode, 2);
  assert.equal(JSON.parse(asJson.stderr).error.code, 'usage');
});

test('the version is told as text and as JSON', async () => {
  assert.match((await runNestbox(['version'], {})).stdout.toString(), new RegExp(`^nestbox ${NESTBOX_VERSION} `));
  const { stdout } = await runNestbox(['version', '--json'], {});
  assert.equal(JSON.parse(stdout.toString()).version, NESTBOX_VERSION);
});

test('without a server, commands that need one say so', async (t) => {
  const folder = await emptyFolder(t);
  for (const words of [['env'], ['sandbox', 'list'], ['sandbox', 'kill', 'x'], ['template', 'list']]) {
    const { exitCode, stderr, stdout } = await runNestbox(words, { NESTBOX_DIR: folder });
    assert.deepEqual([exitCode, stdout.length], [1, 0]);
    assert.match(stderr, /nestbox up.*\[server_not_running\]\n$/);
  }
  // The announcement of a server that died is none.
  await writeFile(
    join(folder, 'server.json'),
    JSON.stringify({
      apiUrl: 'http://127.0.0.1:1',
      sandboxUrl: 'http://127.0.0.1:1',
      pid: 1,
      startTicks: 123_456_789,
      version: '0',
      startedAtMs: 0,
    }),
  );
  const stale = await runNestbox(['env', '--json'], { NESTBOX_DIR: folder });
  assert.equal(JSON.parse(stale.stderr).error.code, 'server_not_running');
});

test('a server that cannot be reached, and one that is none of ours, are told', async (t) => {
  const env = { E2B_API_KEY: 'e2b_00', E2B_SANDBOX_URL: 'http://127.0.0.1:1' };
  const unreachable = await runNestbox(['sandbox', 'list'], { ...env, E2B_API_URL: 'http://127.0.0.1:1' });
  assert.equal(unreachable.exitCode, 1);
  assert.match(unreachable.stderr, /127\.0\.0\.1:1.*\[server_not_running\]\n$/);

  const server = createServer((_request, response) => response.end('<html>')).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const foreign = await runNestbox(['sandbox', 'list'], { ...env, E2B_API_URL: `http://127.0.0.1:${address.port}` });
  assert.equal(foreign.exitCode, 1);
  assert.match(foreign.stderr, /unknown form/);
});

test('a machine that is not set up is told so, by up and by run', { skip: notRoot() }, async (t) => {
  const folder = await emptyFolder(t);
  for (const [words, code] of [
    [['up', '--json', '--port', '0', '--sandbox-port', '0'], 1],
    [['run', '--json', '--', 'true'], 125],
  ] as const) {
    const { exitCode, stderr } = await runNestbox(words, { NESTBOX_DIR: folder });
    assert.equal(exitCode, code);
    const { error } = JSON.parse(stderr);
    assert.equal(error.code, 'not_set_up');
    assert.match(error.message, /nestbox setup/);
  }
});

function notRoot(): string | false {
  return process.geteuid?.() === 0 ? false : 'without root it is told that root is needed';
}
