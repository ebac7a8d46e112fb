import assert from 'node:assert/strict';
import { chmod, stat } from 'node:fs/promises';
import { test } from 'node:test';
import { makeTestHost, writeTestTemplate } from '../testing/test-host.ts';

test('nobody but root gets to the memory and the disks of sandboxes and templates, also where an older version let them', async (t) => {
  const { layout, start } = await makeTestHost(t);
  await writeTestTemplate(layout);
  await chmod(layout.templatesDir, 0o755);
  const host = await start();
  for (const folder of [layout.sandboxesDir, layout.templatesDir])
    assert.equal((await stat(folder)).mode & 0o777, 0o700, folder);
  await host.stop();
});
