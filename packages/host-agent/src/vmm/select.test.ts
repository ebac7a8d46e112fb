import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import { type DriverOptions, selectDriver } from './select.ts';

const OPTIONS: DriverOptions = {
  runRoot: tmpdir(),
  instance: 'abcdef',
  cacheDir: tmpdir(),
  logger: createLogger({ level: 'silent' }),
  firecrackerBinary: '/nonexistent/firecracker',
  askKvm: async () => ({ works: true, reason: 'A guest ran.' }),
};

/** The driver's name, and what it says of why it was chosen. */
async function choice(name: string, options: Partial<DriverOptions>, inUse?: Parameters<typeof selectDriver>[2]) {
  const driver = await selectDriver(name, { ...OPTIONS, ...options }, inUse);
  try {
    return { name: driver.name, why: await driver.describe().then(({ reason }) => reason, String) };
  } finally {
    await driver.close();
  }
}

/** A program that says this when it is asked for its version. */
function programSaying(t: TestContext, words: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-select-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'program');
  writeFileSync(path, `#!/bin/sh\necho '${words}'\n`);
  chmodSync(path, 0o755);
  return path;
}

test('a driver that is named is taken, whether it works here or not', async () => {
  for (const name of ['qemu', 'firecracker', 'cloud-hypervisor'] as const) {
    const driver = await selectDriver(name, OPTIONS);
    assert.equal(driver.name, name);
    await driver.close();
  }
});

test('Cloud Hypervisor restores eagerly unless it is told otherwise, and then needs the preload', async () => {
  for (const [how, preload] of [
    [{}, false],
    [{ cloudHypervisorRestore: 'eager' }, false],
    [{ cloudHypervisorRestore: 'on-demand' }, true],
  ] as const) {
    const driver = await selectDriver('cloud-hypervisor', { ...OPTIONS, ...how });
    assert.equal(driver.features.needsMemoryPreload, preload);
    await driver.close();
  }
});

test('a driver that this version does not have is refused with those it has', async () => {
  for (const name of ['fake', 'constructor', '__proto__', ''])
    await assert.rejects(selectDriver(name, OPTIONS), {
      code: 'not_supported',
      message: /auto, firecracker, cloud-hypervisor, qemu/,
    });
});

test('auto is the first that works, and says of each before it why not', async (t) => {
  const firecracker = programSaying(t, 'Firecracker v1.16.0');
  const emulates = async () => ({ works: false, reason: 'It only emulates.' });
  const cases = [
    [{}, 'qemu', /^/],
    [{ firecrackerBinary: programSaying(t, 'Firecracker v1.7.0') }, 'qemu', /^/],
    [{ firecrackerBinary: programSaying(t, 'something else') }, 'qemu', /^/],
    [{ firecrackerBinary: firecracker, askKvm: emulates }, 'qemu', /^/],
    [{ firecrackerBinary: firecracker }, 'firecracker', /firecracker was chosen: .*1\.16\.0/],
    [
      { cloudHypervisorBinary: programSaying(t, 'cloud-hypervisor v52.0') },
      'cloud-hypervisor',
      /cloud-hypervisor was chosen: .*52\.0.* Not firecracker: /,
    ],
  ] as const;
  for (const [options, name, why] of cases) {
    const chosen = await choice('auto', { qemuBinary: '/nonexistent/qemu', ...options });
    assert.equal(chosen.name, name);
    assert.match(chosen.why, why);
  }
});

test('auto with QEMU says what the others lack', async (t) => {
  const qemuBinary = programSaying(t, 'QEMU emulator version 7.2.0');
  const tcg = { accelerator: 'tcg', qemuBinary } as const;
  for (const [firecrackerBinary, why] of [
    ['/nonexistent/firecracker', /qemu was chosen\. Not firecracker: there is no program \/nonexistent/],
    [programSaying(t, 'Firecracker v1.7.0'), /Not firecracker: .*1\.7\.0 is not supported/],
    [programSaying(t, 'something else'), /Not firecracker: .*no Firecracker/],
    [programSaying(t, 'Firecracker v1.16.0'), /Not firecracker: .*1\.16\.0 is there, but KVM.*emulation was asked for/],
  ] as const) {
    const { askKvm: _, ...options } = { ...OPTIONS, ...tcg, firecrackerBinary };
    const driver = await selectDriver('auto', options);
    assert.match((await driver.describe()).reason, why);
    await driver.close();
  }
});

test('one that is named says that it was', async (t) => {
  const qemuBinary = programSaying(t, 'QEMU emulator version 7.2.0');
  const driver = await selectDriver('qemu', { ...OPTIONS, accelerator: 'tcg', qemuBinary });
  assert.match((await driver.describe()).reason, / qemu was asked for\.$/);
  await driver.close();
});

test('auto stays with what sandboxes run on', async (t) => {
  const firecrackerBinary = programSaying(t, 'Firecracker v1.16.0');
  const qemuBinary = '/nonexistent/qemu';
  assert.equal((await choice('auto', { firecrackerBinary, qemuBinary }, new Set(['qemu']))).name, 'qemu');
  const other = await choice('auto', { qemuBinary }, new Set(['firecracker']));
  assert.equal(other.name, 'firecracker');
});
