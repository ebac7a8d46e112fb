import assert from 'node:assert/strict';
import { access, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { z } from 'zod';
import { hostLayout } from './layout.ts';
import { SandboxRecordStore } from './sandbox-records.ts';
import { NEEDS_ROOT, temporaryState, tinyFileSystem } from './testing/temporary-state.ts';

const schema = z.object({ state: z.enum(['starting', 'running']), slot: z.int() });

test('a record is read back as it was written, and the last one counts', async (t) => {
  const store = new SandboxRecordStore(await temporaryState(t), schema);
  assert.equal(await store.read('i1'), undefined);
  await store.write('i1', { state: 'starting', slot: 7 });
  await store.write('i1', { state: 'running', slot: 7 });
  assert.deepEqual(await store.read('i1'), { state: 'running', slot: 7 });
});

test('records are readable for their owner only and leave no temporary file', async (t) => {
  const layout = await temporaryState(t);
  await new SandboxRecordStore(layout, schema).write('i1', { state: 'running', slot: 1 });
  assert.equal((await stat(layout.sandboxRecord('i1'))).mode & 0o077, 0);
  assert.equal((await stat(layout.sandboxDir('i1'))).mode & 0o077, 0);
  assert.deepEqual(await readdir(layout.sandboxDir('i1')), ['sandbox.json']);
});

test('the list holds every record and tells damaged from missing ones', async (t) => {
  const layout = await temporaryState(t);
  const store = new SandboxRecordStore(layout, schema);
  assert.deepEqual(await store.list(), { records: [], damaged: [] });
  await store.write('i1', { state: 'running', slot: 1 });
  await store.write('i2', { state: 'starting', slot: 2 });
  await mkdir(layout.sandboxDir('i3'));
  await store.write('i4', { state: 'running', slot: 4 });
  await writeFile(layout.sandboxRecord('i4'), '{"state": "running", "slot": "four"}');
  await mkdir(layout.sandboxRecord('i5'), { recursive: true });
  const { records, damaged } = await store.list();
  assert.deepEqual(
    records.toSorted((a, b) => a.sandboxId.localeCompare(b.sandboxId)),
    [
      { sandboxId: 'i1', record: { state: 'running', slot: 1 } },
      { sandboxId: 'i2', record: { state: 'starting', slot: 2 } },
    ],
  );
  assert.deepEqual(
    new Set(damaged.map(({ sandboxId, kind }) => `${sandboxId} ${kind}`)),
    new Set(['i3 missing', 'i4 unreadable', 'i5 unreadable']),
  );
  assert.match(damaged.find(({ sandboxId }) => sandboxId === 'i4')?.reason ?? '', /slot/);
});

test('reading a damaged record is an error that says what is wrong', async (t) => {
  const layout = await temporaryState(t);
  const store = new SandboxRecordStore(layout, schema);
  await store.write('i1', { state: 'running', slot: 1 });
  await writeFile(layout.sandboxRecord('i1'), '');
  await assert.rejects(store.read('i1'), /record of sandbox i1 is damaged: sandbox\.json: the file is empty/);
});

test('a durable record of which a bit is another is damaged or says the same, wherever the bit is; one without a checksum is taken as it is', async (t) => {
  const layout = await temporaryState(t);
  const store = new SandboxRecordStore(layout, schema);
  const path = layout.sandboxRecord('i1');
  await store.write('i1', { state: 'running', slot: 1 });
  const right = await readFile(path);
  for (let at = 0; at < right.length; at++) {
    const other = Buffer.from(right);
    other.writeUInt8(other.readUInt8(at) ^ 1, at);
    await writeFile(path, other);
    const found = await store.list();
    // Between the words, and in the name of the checksum, it changes nothing.
    if (found.damaged.length === 0)
      assert.deepEqual(found.records[0]?.record, { state: 'running', slot: 1 }, `at ${at}`);
    else assert.deepEqual([found.damaged[0]?.kind, found.records.length], ['unreadable', 0], `at ${at}`);
  }
  await store.write('i1', { state: 'running', slot: 1 }, { durable: false });
  await writeFile(path, (await readFile(path, 'utf8')).replace('1', '2'));
  assert.deepEqual(await store.read('i1'), { state: 'running', slot: 2 });
});

test('removing a sandbox removes its whole folder, and again is fine', async (t) => {
  const layout = await temporaryState(t);
  const store = new SandboxRecordStore(layout, schema);
  await store.write('i1', { state: 'running', slot: 1 });
  await writeFile(join(layout.sandboxDir('i1'), 'disk-00000000.qcow2'), 'disk');
  await store.remove('i1');
  await store.remove('i1');
  await assert.rejects(access(layout.sandboxDir('i1')));
});

test('an id that would lead out of the folder is refused', async (t) => {
  const layout = await temporaryState(t);
  const store = new SandboxRecordStore(layout, schema);
  const precious = join(layout.sandboxesDir, '..', 'templates');
  await mkdir(precious, { recursive: true });
  const invalid = (error: unknown) => error instanceof NestboxError && error.code === 'invalid_request';
  for (const id of ['../templates', '..', '.', '', 'a/b', 'a\0b']) {
    await assert.rejects(store.remove(id), invalid);
    await assert.rejects(store.write(id, { state: 'running', slot: 1 }), invalid);
    await assert.rejects(store.read(id), invalid);
  }
  await access(precious);
});

test('a full disk is host_disk_full and keeps the old record', { skip: NEEDS_ROOT }, async (t) => {
  const layout = hostLayout({ stateDir: await tinyFileSystem(t), runDir: '/nonexistent', instance: 'ffffff' });
  const texts = new SandboxRecordStore(layout, z.object({ text: z.string() }));
  await texts.write('i1', { text: 'small' });
  await assert.rejects(
    texts.write('i1', { text: 'x'.repeat(200_000) }),
    (error) => error instanceof NestboxError && error.code === 'host_disk_full',
  );
  assert.deepEqual(await texts.read('i1'), { text: 'small' });
  assert.deepEqual(await readdir(layout.sandboxDir('i1')), ['sandbox.json']);
});
