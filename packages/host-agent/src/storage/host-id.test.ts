import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readOrMakeHostId } from './host-id.ts';

test('a state folder has one host id, another folder another one, and a file that holds none is refused', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-host-id-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const first = { hostId: join(folder, 'a') };
  const id = await readOrMakeHostId(first);
  assert.match(id, /^[0-9a-f]{16}$/);
  assert.equal(await readOrMakeHostId(first), id);
  assert.notEqual(await readOrMakeHostId({ hostId: join(folder, 'b') }), id);

  await writeFile(first.hostId, 'local\n');
  await assert.rejects(readOrMakeHostId(first), { code: 'conflict' });
  assert.equal(await readFile(first.hostId, 'utf8'), 'local\n');
});
