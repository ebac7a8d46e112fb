import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createDriverBench, whyNoVm } from '../testing/driver-bench.ts';
import { CLOUD_HYPERVISOR } from './cloud-hypervisor/program.ts';
import { describeDriverConformance } from './conformance.ts';
import { FIRECRACKER } from './firecracker/program.ts';
import { probe } from './qemu/probe.ts';
import { createRealDriver, someKvmDevice } from './testing/real-vmm.ts';

const noKernel = await whyNoVm();

/** Why no guest of a VMM that needs KVM can run here; undefined when one can. */
async function whyNoKvm(): Promise<string | undefined> {
  const bench = await createDriverBench();
  try {
    const { kvm } = await probe({ cacheDir: bench.cacheDir, qemuBinary: undefined, askKvm: true });
    return kvm.works ? undefined : kvm.reason;
  } finally {
    await bench.remove();
  }
}

for (const [kind, { label, variable }] of [
  ['firecracker', FIRECRACKER],
  ['cloud-hypervisor', CLOUD_HYPERVISOR],
] as const) {
  const program = process.env[variable] ?? '';
  const missing = program === '' ? `${variable} names no program` : noKernel;

  describeDriverConformance(
    `${label} itself, as a`,
    async () => {
      const bench = await createDriverBench();
      const { runRoot, instance, cacheDir } = bench;
      return {
        driver: { kind, runRoot, instance, cacheDir, program },
        createSpec: () => bench.createSpec('idle'),
        createSilentSpec: () => bench.createSpec('silent'),
        // Its kernel panics, and the VMM ends.
        createDoomedSpec: () => bench.createSpec('panic'),
        boundsVms: true,
        cleanUp: bench.remove,
      };
    },
    { skip: missing ?? (await whyNoKvm()) },
  );

  test(`${label} is started in its jail and answers, whether KVM works or not; nothing is left of it`, {
    skip: missing ?? false,
  }, async () => {
    const bench = await createDriverBench();
    const { runRoot, instance, cacheDir } = bench;
    const kvmDevice = await someKvmDevice();
    const driver = createRealDriver(kind, { runRoot, instance, cacheDir, program }, { kvmDevice });
    try {
      const spec = await bench.createSpec('idle');
      const started = await driver.start(spec).catch((error: unknown) => error);
      if (started instanceof Error) {
        assert.ok(started instanceof NestboxError, String(started));
        // In the VMM's own words: a call that was refused, or its end.
        assert.match(started.message, new RegExp(`${label}: PUT|The VM manager`));
      } else {
        await driver.removeStrays([]);
      }
      await driver.close();
      const last = createRealDriver(kind, { runRoot, instance, cacheDir, program }, { kvmDevice });
      await last.removeStrays([]);
      await last.close();
      assert.deepEqual(await readdir(spec.runDir), []);
    } finally {
      await bench.remove();
    }
  });
}
