import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import { selectDriver } from './select.ts';

const OPTIONS = {
  runRoot: tmpdir(),
  instance: 'abcdef',
  cacheDir: tmpdir(),
  logger: createLogger({ level: 'silent' }),
};

test('auto and qemu are QEMU', async () => {
  for (const name of ['auto', 'qemu']) {
    const driver = selectDriver(name, OPTIONS);
    assert.equal(driver.name, 'qemu');
    await driver.close();
  }
});

test('a driver that this version does not have is refused with those it has', () => {
  for (const name of ['firecracker', 'fake', 'constructor', '__proto__', ''])
    assert.throws(() => selectDriver(name, OPTIONS), { code: 'not_supported', message: /auto, qemu/ });
});
