/**
 * `npm test [-- PATTERN…]`: sources, set-up, then every test in one run of Node's test runner, whose summary is the last
 * thing on screen. Patterns (parts of paths) choose test files; the checks of the sources are left out then.
 */
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { pipeline } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { prepareDebianPackages } from './support/prepare-debian-packages.ts';
import { prepareHost } from './support/prepare-host.ts';
import { preparePythonClient } from './support/prepare-python-client.ts';
import { ROOT } from './support/repository.ts';
import { checkSources } from './support/source-checks.ts';

/**
 * In this order: what fails fastest comes first. Test files that boot VMs take about a core each where there is no KVM.
 */
const GROUPS: readonly string[] = [
  'packages/**/!(*.vm).test.ts',
  '{scripts,bench}/**/*.test.ts',
  'packages/**/*.vm.test.ts',
  'test/states/**/*.test.ts',
  'test/edge/**/*.test.ts',
  'test/compat/**/*.test.ts',
  'test/e2e/**/*.test.ts',
];

/** A file that takes longer hangs. */
const FILE_TIMEOUT_MS = 10 * 60_000;

const patterns = process.argv.slice(2);
const files = GROUPS.flatMap((group) =>
  globSync(group, { cwd: ROOT, exclude: (name) => name === 'node_modules' }).sort(),
).filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)));

if (files.length === 0) {
  console.error(`No test file matches ${patterns.join(' ')}.`);
  process.exit(1);
}
if (patterns.length === 0 && !(await checkSources())) process.exit(1);
if (!(await prepareHost())) process.exitCode = 1;
await prepareDebianPackages();
await preparePythonClient();

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
const results = run({
  files,
  cwd: ROOT,
  concurrency: Math.min(4, Math.max(2, availableParallelism())),
  timeout: FILE_TIMEOUT_MS,
  signal: interrupted.signal,
});
results.on('test:fail', () => {
  process.exitCode = 1;
});
await pipeline(results, new spec(), process.stdout, { end: false });
