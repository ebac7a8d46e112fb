import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CopySpeeds, measureCopies } from '../storage/measure-copies.ts';
import { checkDiskCopies } from './disk-copy-checks.ts';

const SPARSE: CopySpeeds = { fileSystem: 'ext4', bytes: 32 * 2 ** 20, reflinkMs: undefined, sparseMs: 16 };
const REFLINK: CopySpeeds = { fileSystem: 'XFS', bytes: 32 * 2 ** 20, reflinkMs: 1.25, sparseMs: 20 };

test('each way is measured in the folder, of which nothing is left', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-copies-'));
  t.after(() => rm(folder, { recursive: true }));
  const { fileSystem, bytes, reflinkMs, sparseMs } = await measureCopies(folder);
  assert.match(fileSystem, /\S/);
  assert.ok(bytes > 0 && sparseMs > 0 && (reflinkMs === undefined || reflinkMs > 0));
  assert.deepEqual(await readdir(folder), []);
});

test('what is used, why, and what each way costs is said', async () => {
  for (const [formats, speeds, state, found] of [
    [
      ['raw', 'qcow2'],
      SPARSE,
      'ok',
      /^Layers .*nothing is copied.*On ext4: no reflinks; by a sparse copy in 16 ms \(2000 MiB\/s\)\.$/,
    ],
    [['raw'], REFLINK, 'ok', /^Reflinks are used, since XFS has them.*32 MiB by reflink in 1\.3 ms; by a sparse copy/],
    [['raw'], SPARSE, 'warning', /^Sparse copies are used, since ext4 has no reflinks here: .*stands still/],
  ] as const) {
    const check = await checkDiskCopies(tmpdir(), formats, async () => speeds);
    assert.equal(check.state, state);
    assert.match(check.found, found);
    assert.equal(check.mend === undefined, state === 'ok');
  }
});

test('what cannot be measured is said, with what is used all the same', async () => {
  const none = await checkDiskCopies('/nonexistent/nestbox', ['raw']);
  assert.match(none.found, /Reflinks are used where .*there is no \/nonexistent/);
  const failed = await checkDiskCopies(tmpdir(), ['raw', 'qcow2'], () => Promise.reject(new Error('no room')));
  assert.equal(failed.state, 'warning');
  assert.match(failed.found, /Layers .*Not measured: no room/);
});
