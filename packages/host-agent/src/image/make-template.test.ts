import assert from 'node:assert/strict';
import { link, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hostLayout } from '../storage/layout.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { makeTemplate, type TemplateSpec } from './make-template.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

const SPEC: TemplateSpec = {
  templateId: 'tinytemplate00000000',
  names: ['tiny'],
  vcpuCount: 1,
  memoryMib: 256,
  diskMib: 64,
  defaultUser: 'root',
  envVars: {},
};

async function prepare(t: TestContext) {
  const stateDir = await temporaryFolder(t);
  const layout = hostLayout({ stateDir, runDir: join(stateDir, 'run'), instance: '000000' });
  const tree = join(stateDir, 'tree');
  const workDir = join(stateDir, 'work');
  await mkdir(join(tree, 'etc'), { recursive: true });
  await mkdir(workDir);
  await writeFile(join(tree, 'etc/hostname'), 'tiny\n');
  return { layout, tree, workDir };
}

test('a template is there with its disk, and cannot be written to', async (t) => {
  const { layout, tree, workDir } = await prepare(t);
  const made = await makeTemplate({ layout, tree, workDir, spec: SPEC });
  const template = await new TemplateStore(layout).get('tiny');
  assert.equal(template.createdAtMs, made.createdAtMs);
  const disk = await stat(template.rootfsPath);
  assert.equal(disk.size, 64 * 2 ** 20);
  assert.equal(disk.mode & 0o777, 0o444);
  assert.deepEqual(await readdir(workDir), []);
});

test('a template that is there stays as it is unless it is to be replaced', async (t) => {
  const { layout, tree, workDir } = await prepare(t);
  await makeTemplate({ layout, tree, workDir, spec: SPEC });
  await assert.rejects(makeTemplate({ layout, tree, workDir, spec: { ...SPEC, memoryMib: 512 } }), {
    code: 'conflict',
  });
  assert.equal((await new TemplateStore(layout).get('tiny')).memoryMib, 256);
  await makeTemplate({ layout, tree, workDir, spec: { ...SPEC, memoryMib: 512 }, replace: true });
  assert.equal((await new TemplateStore(layout).get('tiny')).memoryMib, 512);
  assert.deepEqual(await readdir(workDir), []);
});

test('a template that is replaced leaves its disk to the sandboxes that have links to it', async (t) => {
  const { layout, tree, workDir } = await prepare(t);
  await makeTemplate({ layout, tree, workDir, spec: SPEC });
  const kept = join(workDir, 'a-sandbox-has-it');
  await link(layout.templateRootfs(SPEC.templateId), kept);
  const before = await stat(kept);
  await makeTemplate({ layout, tree, workDir, spec: SPEC, replace: true });
  assert.equal((await stat(kept)).ino, before.ino);
  assert.notEqual((await stat(layout.templateRootfs(SPEC.templateId))).ino, before.ino);
  assert.deepEqual(await readdir(workDir), ['a-sandbox-has-it']);
});

test('a spec that is none is refused before anything is made', async (t) => {
  const { layout, tree, workDir } = await prepare(t);
  await assert.rejects(makeTemplate({ layout, tree, workDir, spec: { ...SPEC, vcpuCount: 0 } }), {
    code: 'invalid_request',
    message: /vcpuCount/,
  });
  assert.deepEqual(await readdir(workDir), []);
});

test('a folder that does not fit leaves nothing behind', async (t) => {
  const { layout, tree, workDir } = await prepare(t);
  await writeFile(join(tree, 'large'), Buffer.alloc(80 * 2 ** 20, 1));
  await assert.rejects(makeTemplate({ layout, tree, workDir, spec: SPEC }), { name: 'NestboxError' });
  assert.deepEqual(await readdir(workDir), []);
  assert.deepEqual((await new TemplateStore(layout).list()).templates, []);
});
