import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram, installLine, missingPackages, type RequiredPackage, requiredPackages } from './host-packages.ts';
import { describeMissing } from './install-packages.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

test('programs are found in the PATH, and only those that can be run', async (t) => {
  const folder = await temporaryFolder(t);
  const env = { PATH: `${folder}:/usr/bin` };
  await writeFile(join(folder, 'nestbox-test-tool'), '#!/bin/sh\n', { mode: 0o644 });
  assert.equal(await findProgram('nestbox-test-tool', env), undefined);
  await chmod(join(folder, 'nestbox-test-tool'), 0o755);
  assert.equal(await findProgram('nestbox-test-tool', env), join(folder, 'nestbox-test-tool'));
});

test('system folders are looked at though the PATH of a plain user lacks them', async () => {
  assert.match((await findProgram('mke2fs', { PATH: '/nowhere' })) ?? '', /sbin\/mke2fs$/);
});

test('relative parts of the PATH are not taken', async () => {
  assert.equal(await findProgram('package.json', { PATH: '.:' }), undefined);
});

test('a package is missing when one of its programs or files is, and says which', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'there'), '', { mode: 0o755 });
  const packages: RequiredPackage[] = [
    { name: 'whole', needs: ['there', join(folder, 'there')], why: 'pass', use: 'run' },
    { name: 'broken', needs: ['there', 'nestbox-not-there'], why: 'fail', use: 'run' },
  ];
  const missing = await missingPackages(packages, { PATH: folder });
  assert.deepEqual(
    missing.map(({ name, missing: programs }) => ({ name, programs })),
    [{ name: 'broken', programs: ['nestbox-not-there'] }],
  );
  assert.equal(describeMissing(missing), 'nestbox-not-there (package broken, needed to fail)');
  assert.equal(installLine(missing), 'sudo apt-get install --no-install-recommends broken');
});

test('each required package is listed once', () => {
  const names = requiredPackages.map(({ name }) => name);
  assert.deepEqual(names, [...new Set(names)]);
});
