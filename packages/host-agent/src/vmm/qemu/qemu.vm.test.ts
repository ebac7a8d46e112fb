import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createDriverBench, whyNoVm } from '../../testing/driver-bench.ts';
import { describeDriverConformance } from '../conformance.ts';

describeDriverConformance(
  'QEMU',
  async () => {
    const bench = await createDriverBench();
    const noKernel = join(bench.folder, 'no-kernel');
    await writeFile(noKernel, 'This is no kernel.');
    const { runRoot, instance, cacheDir } = bench;
    return {
      driver: { kind: 'qemu', runRoot, instance, cacheDir },
      createSpec: () => bench.createSpec('idle'),
      createSilentSpec: () => bench.createSpec('silent'),
      createDoomedSpec: () => bench.createSpec('idle', { kernelPath: noKernel }),
      boundsVms: true,
      cleanUp: bench.remove,
    };
  },
  { skip: await whyNoVm() },
);
