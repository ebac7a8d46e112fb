import assert from 'node:assert/strict';
import { mkdir, readdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { hostLayout } from '../storage/layout.ts';
import { type AgentDiskOptions, agentDiskFingerprint, makeAgentDisk } from './agent-disk.ts';
import { writeModuleTree } from './testing/module-tree.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

/** A small dynamic program in Node's place: what counts is that its libraries come along. */
const PROGRAM = '/bin/cat';

async function prepare(t: TestContext): Promise<AgentDiskOptions> {
  const stateDir = await temporaryFolder(t);
  const layout = hostLayout({ stateDir, runDir: join(stateDir, 'run'), instance: '000000' });
  const workDir = join(stateDir, 'work');
  const native = join(stateDir, 'native');
  const moduleTree = join(stateDir, 'modules');
  for (const folder of [workDir, native, moduleTree]) await mkdir(folder);
  await writeModuleTree(moduleTree);
  await writeFile(join(native, 'index.js'), 'exports.native = true;\n');
  const bundlePath = join(stateDir, 'agent.mjs');
  await writeFile(bundlePath, 'console.log("agent");\n');
  return {
    layout,
    workDir,
    nodePath: PROGRAM,
    bundle: { bundlePath, nativePackages: [{ name: '@scope/native', dir: native }] },
    moduleTree,
    kernelRelease: '6.1.0-test',
  };
}

test('the program on the disk runs with nothing but the libraries beside it', async (t) => {
  const options = await prepare(t);
  const disk = await makeAgentDisk(options);
  const out = join(options.workDir, 'out');
  await mkdir(out);
  await runCommand('debugfs', ['-R', `rdump / ${out}`, disk.path]);
  const loader = join(out, 'lib/ld-linux-x86-64.so.2');
  const { stdout } = await runCommand(loader, [
    '--library-path',
    join(out, 'lib'),
    join(out, 'node'),
    join(out, 'agent.mjs'),
  ]);
  assert.equal(stdout, 'console.log("agent");\n');
  assert.deepEqual(await readdir(join(out, 'node_modules/@scope/native')), ['index.js']);
  assert.ok((await readdir(join(out, 'modules/6.1.0-test'))).includes('modules.dep'));
});

test('the same content is the same disk, and is not built again', async (t) => {
  const options = await prepare(t);
  const first = await makeAgentDisk(options);
  const before = await stat(first.path);
  const second = await makeAgentDisk(options);
  assert.deepEqual(second, first);
  assert.equal((await stat(second.path)).ino, before.ino);
  assert.equal(before.mode & 0o777, 0o444);
});

test('another agent is another disk, and the old one stays for the sandboxes that boot from it', async (t) => {
  const options = await prepare(t);
  const first = await makeAgentDisk(options);
  await writeFile(options.bundle.bundlePath, 'console.log("newer agent");\n');
  const second = await makeAgentDisk(options);
  assert.notEqual(second.hash, first.hash);
  assert.equal((await readdir(options.layout.agentDir)).length, 2);
  assert.ok(!(await readdir(options.workDir)).some((name) => name.endsWith('.ext4')));
});

test('the fingerprint follows the sources and the kernel, not the time at which somebody looked', async (t) => {
  const { bundle, layout } = await prepare(t);
  const sources = [bundle.bundlePath, bundle.nativePackages[0]?.dir ?? ''];
  const fingerprint = () => agentDiskFingerprint(sources, PROGRAM, '6.1_1');
  const first = await fingerprint();
  await utimes(bundle.bundlePath, new Date(), new Date());
  assert.equal(await fingerprint(), first);
  assert.notEqual(await agentDiskFingerprint(sources, PROGRAM, '6.1_2'), first);
  assert.notEqual(await agentDiskFingerprint(sources, '/bin/ls', '6.1_1'), first);
  await writeFile(join(sources[1] ?? layout.agentDir, 'added.js'), '');
  assert.notEqual(await fingerprint(), first);
});
