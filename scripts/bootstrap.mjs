// Starts a TypeScript task (`node scripts/bootstrap.mjs test`) on the Node that the lock file names, after making sure
// that node_modules is complete. Runs itself on any Node from 18 on, so: plain JavaScript, and nothing but Node's own modules.
import { spawn } from 'node:child_process';
import { existsSync, linkSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, delimiter, dirname, join, sep } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const TASKS = {
  quickstart: 'scripts/quickstart.ts',
  test: 'scripts/test.ts',
  check: 'scripts/check.ts',
  generate: 'scripts/generate.ts',
  bench: 'bench/main.ts',
  soak: 'scripts/soak.ts',
  pack: 'scripts/pack.ts',
};

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const lockFile = join(root, 'package-lock.json');
const stampFile = join(modules, '.nestbox-complete');
const installLock = join(root, '.install-lock');
const node24 = join(modules, '.bin', 'node');

/** What a lock file puts into node_modules on every machine: path → entry. */
function entriesOf(file) {
  const { packages } = JSON.parse(readFileSync(file, 'utf8'));
  return new Map(
    Object.entries(packages).filter(([path, entry]) => path.startsWith('node_modules/') && !entry.optional),
  );
}

/**
 * What of node_modules is not as package-lock.json says, in words; nothing when it is complete. npm writes
 * node_modules/.package-lock.json as the last act of an install, so it tells a complete install from an interrupted one.
 */
function findDifferences() {
  const hidden = join(modules, '.package-lock.json');
  if (!existsSync(hidden) || !existsSync(node24)) return ['no complete installation'];
  const wanted = entriesOf(lockFile);
  const present = entriesOf(hidden);
  const wrong = [...wanted].filter(
    ([path, { version }]) => present.get(path)?.version !== version || !existsSync(join(root, path, 'package.json')),
  );
  const unknown = [...present].filter(([path]) => !wanted.has(path));
  return [...wrong, ...unknown].map(([path]) => path);
}

/** Our stamp is the short way to the same answer. */
function isComplete() {
  const lock = readFileSync(lockFile, 'utf8');
  if (existsSync(node24) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === lock) return true;
  if (findDifferences().length > 0) return false;
  writeFileSync(stampFile, lock);
  return true;
}

/** The process that installs writes its pid into the lock in one step (link); a dead owner's lock is nobody's. */
async function withInstallLock(task) {
  const mine = `${installLock}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    let announced = false;
    while (!tryLink(mine)) {
      const owner = readOwner();
      if (owner !== undefined && !isAlive(owner)) removeLockOf(owner);
      else {
        if (!announced) say(`waiting for the installation that process ${owner ?? '?'} is doing`);
        announced = true;
        await sleep(200);
      }
    }
    try {
      removeAbandonedFiles();
      return await task();
    } finally {
      rmSync(installLock, { force: true });
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Of processes that were killed between writing their pid and taking it back. */
function removeAbandonedFiles() {
  const prefix = `${basename(installLock)}.`;
  for (const name of readdirSync(root).filter((each) => each.startsWith(prefix))) {
    if (!isAlive(Number.parseInt(name.slice(prefix.length), 10))) rmSync(join(root, name), { force: true });
  }
}

function tryLink(mine) {
  try {
    linkSync(mine, installLock);
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    return false;
  }
}

/** Another waiter may have taken the lock since it was read: what was moved away is looked at, and put back if alive. */
function removeLockOf(owner) {
  const aside = `${installLock}.${process.pid}.aside`;
  try {
    renameSync(installLock, aside);
    if (readOwner(aside) !== owner) linkSync(aside, installLock);
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'EEXIST') throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

function readOwner(file = installLock) {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** The npm that runs us, else the one on PATH; never one from the folder that the installation is about to empty. */
function npmCommand() {
  const outside = (path) => path !== undefined && existsSync(path) && !path.startsWith(modules + sep);
  const runner = process.env.npm_execpath;
  const nodes = [process.env.npm_node_execpath, process.execPath];
  if (outside(runner) && basename(runner).startsWith('npm')) {
    const node = nodes.find(outside);
    if (node !== undefined) return [node, runner];
  }
  return ['npm'];
}

/**
 * Not `npm ci`: it refuses a lock file in which optional packages for other platforms are missing, as they are when the
 * registry that the lock was made with does not have them. Everything that the lock names is installed as it says and is
 * verified by its hash; what came out is compared with the lock again.
 */
async function install() {
  const begun = Date.now();
  say('installing the npm packages of package-lock.json …');
  rmSync(modules, { recursive: true, force: true });
  const [file, ...args] = npmCommand();
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.startsWith(modules));
  const flags = ['--no-save', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const code = await run(file, [...args, 'install', ...flags], { ...process.env, PATH: path.join(delimiter) });
  const differences = code === 0 ? findDifferences() : [];
  if (code !== 0)
    say('npm did not install the packages; its words above say why. Run the same command again to go on.');
  else if (differences.length > 0) say(`not installed as package-lock.json says: ${differences.join(', ')}`);
  else {
    writeFileSync(stampFile, readFileSync(lockFile, 'utf8'));
    say(`npm packages installed in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  }
  return differences.length > 0 ? 1 : code;
}

/** Runs a program in our place: its streams are ours, our signals are its, and its exit code is returned. */
function run(file, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: root, env, stdio: 'inherit' });
    const pass = (signal) => child.kill(signal);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, pass);
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(name, pass);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

function say(text) {
  process.stderr.write(`nestbox: ${text}\n`);
}

const [task, ...taskArgs] = process.argv.slice(2);
const script = Object.hasOwn(TASKS, task ?? '') ? TASKS[task] : undefined;
if (script === undefined) {
  say(`no such task: ${task ?? '(none)'}. Known: ${Object.keys(TASKS).join(', ')}.`);
  process.exit(2);
}
if (process.platform !== 'linux' || process.arch !== 'x64') {
  say(`Nestbox runs on Linux on x86-64; this is ${process.platform} on ${process.arch}.`);
  process.exit(1);
}
const installed = isComplete() ? 0 : await withInstallLock(() => (isComplete() ? 0 : install()));
process.exitCode =
  installed === 0
    ? await run(node24, [join(root, script), ...taskArgs], {
        ...process.env,
        // The programs of root lie where the PATH of `su` does not look.
        PATH: [join(modules, '.bin'), process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter),
      })
    : installed;
