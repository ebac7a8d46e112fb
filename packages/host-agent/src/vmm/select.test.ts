import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import { examineFirecracker } from './firecracker/examine.ts';
import { requireSandboxDisks, selectDriver } from './select.ts';

const OPTIONS = {
  runRoot: tmpdir(),
  instance: 'abcdef',
  cacheDir: tmpdir(),
  logger: createLogger({ level: 'silent' }),
};

test('auto and qemu are QEMU, firecracker is Firecracker, and sandboxes are made on the former alone', async () => {
  for (const [name, vmm] of [
    ['auto', 'qemu'],
    ['qemu', 'qemu'],
    ['firecracker', 'firecracker'],
  ] as const) {
    const driver = selectDriver(name, OPTIONS);
    assert.equal(driver.name, vmm);
    if (vmm === 'qemu') requireSandboxDisks(driver);
    else assert.throws(() => requireSandboxDisks(driver), { code: 'not_supported', message: /firecracker.*qcow2/ });
    await driver.close();
  }
});

test('a driver that this version does not have is refused with those it has', () => {
  for (const name of ['cloud-hypervisor', 'fake', 'constructor', '__proto__', ''])
    assert.throws(() => selectDriver(name, OPTIONS), { code: 'not_supported', message: /auto, qemu, firecracker/ });
});

/** A program that says this when it is asked for its version. */
function programSaying(t: TestContext, words: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-select-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'firecracker');
  writeFileSync(path, `#!/bin/sh\necho '${words}'\n`);
  chmodSync(path, 0o755);
  return path;
}

test('Firecracker is looked for: the program, its version, KVM', async (t) => {
  const good = { works: true, reason: 'A guest ran.' };
  const current = programSaying(t, 'Firecracker v1.16.0');
  const cases = [
    ['/nonexistent/firecracker', good, false, /no program \/nonexistent/],
    [programSaying(t, 'Firecracker v1.7.0'), good, false, /1\.7\.0 is not supported/],
    [programSaying(t, 'something else'), good, false, /no Firecracker/],
    [current, { works: false, reason: 'It only emulates.' }, false, /1\.16\.0 is there, but KVM.*only emulates/],
    [current, good, true, /1\.16\.0/],
  ] as const;
  for (const [binary, kvm, works, words] of cases) {
    const answer = await examineFirecracker(binary, async () => kvm);
    assert.equal(answer.works, works);
    assert.match(answer.reason, words);
  }
});
