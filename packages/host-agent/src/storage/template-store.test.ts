import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import type { TemplateFile } from './images-file.ts';
import type { HostLayout } from './layout.ts';
import { TemplateStore } from './template-store.ts';
import { temporaryState } from './testing/temporary-state.ts';

function template(templateId: string, change: Partial<TemplateFile> = {}): TemplateFile {
  return {
    templateId,
    names: [],
    vcpuCount: 2,
    memoryMib: 512,
    diskMib: 1024,
    defaultUser: 'user',
    envVars: { LANG: 'C.UTF-8' },
    createdAtMs: 1_700_000_000_000,
    ...change,
  };
}

async function put(layout: HostLayout, folder: string, content: unknown, rootfs = true): Promise<void> {
  await mkdir(layout.templateDir(folder), { recursive: true });
  await writeFile(layout.templateFile(folder), typeof content === 'string' ? content : JSON.stringify(content));
  if (rootfs) await writeFile(layout.templateRootfs(folder), '');
}

test('a host without templates has an empty list', async (t) => {
  const store = new TemplateStore(await temporaryState(t));
  assert.deepEqual(await store.list(), { templates: [], damaged: [] });
});

test('a template is found by its id and by each of its names', async (t) => {
  const layout = await temporaryState(t);
  await put(layout, 'one', template('one', { names: ['base', 'python'] }));
  const store = new TemplateStore(layout);
  for (const key of ['one', 'base', 'python'])
    assert.deepEqual(await store.get(key), {
      ...template('one', { names: ['base', 'python'] }),
      rootfsPath: layout.templateRootfs('one'),
    });
});

test('of two templates with one name the newer is taken, and an id goes before a name', async (t) => {
  const layout = await temporaryState(t);
  await put(layout, 'old', template('old', { names: ['base'], createdAtMs: 1 }));
  await put(layout, 'new', template('new', { names: ['base', 'old'], createdAtMs: 2 }));
  const store = new TemplateStore(layout);
  assert.equal((await store.get('base')).templateId, 'new');
  assert.equal((await store.get('old')).templateId, 'old');
  assert.deepEqual(
    (await store.list()).templates.map(({ templateId }) => templateId),
    ['new', 'old'],
  );
});

test('damaged templates are reported and the others still work', async (t) => {
  const layout = await temporaryState(t);
  await put(layout, 'good', template('good'));
  await put(layout, 'cut-off', '{"templateId": "cut-');
  await put(layout, 'empty', '');
  await put(layout, 'wrong', template('wrong', { memoryMib: -1 }));
  await put(layout, 'moved', template('other'));
  await put(layout, 'diskless', template('diskless'), false);
  await mkdir(layout.templateDir('being-made'));
  await writeFile(`${layout.templatesDir}/a-file`, '');
  const { templates, damaged } = await new TemplateStore(layout).list();
  assert.deepEqual(
    templates.map(({ templateId }) => templateId),
    ['good'],
  );
  const reasons = new Map(damaged.map(({ templateId, reason }) => [templateId, reason]));
  assert.deepEqual(new Set(reasons.keys()), new Set(['cut-off', 'diskless', 'empty', 'moved', 'wrong']));
  assert.match(reasons.get('cut-off') ?? '', /not JSON/);
  assert.match(reasons.get('empty') ?? '', /empty/);
  assert.match(reasons.get('wrong') ?? '', /memoryMib/);
  assert.match(reasons.get('moved') ?? '', /another template, other/);
  assert.match(reasons.get('diskless') ?? '', /rootfs\.ext4/);
});

test('asking for a template that is not there is template_not_found, for a damaged one snapshot_damaged', async (t) => {
  const layout = await temporaryState(t);
  await put(layout, 'broken', '{');
  const store = new TemplateStore(layout);
  const code = (expected: string) => (error: unknown) => error instanceof NestboxError && error.code === expected;
  await assert.rejects(store.get('absent'), code('template_not_found'));
  await assert.rejects(store.get('../../etc'), code('template_not_found'));
  await assert.rejects(store.get('broken'), code('snapshot_damaged'));
});
