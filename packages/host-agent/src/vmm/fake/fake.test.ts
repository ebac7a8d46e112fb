import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@nestbox/kit';
import { createBlankImage } from '../../memory/memory-image.ts';
import { describeDriverConformance } from '../conformance.ts';
import type { VmSpec } from '../driver.ts';
import { createFakeDriver } from './fake-driver.ts';
import type { FakeFailures } from './fake-options.ts';

const MEMORY_MIB = 128;

describeDriverConformance('fake', async () => {
  const runRoot = await mkdtemp(join(tmpdir(), 'nestbox-fake-'));
  const logger = createLogger({ level: 'silent' });
  let count = 0;
  const createSpec = async (): Promise<VmSpec> => {
    const vmId = `fake${++count}`;
    const runDir = join(runRoot, vmId);
    await mkdir(runDir);
    const memoryPath = join(runRoot, `${vmId}.memory`);
    await createBlankImage(memoryPath, MEMORY_MIB * 2 ** 20);
    const diskPath = join(runRoot, `${vmId}.raw`);
    await writeFile(diskPath, '');
    await truncate(diskPath, 2 ** 20);
    return {
      vmId,
      vcpuCount: 1,
      memoryMib: MEMORY_MIB,
      userId: 1_879_048_192,
      memoryPath,
      kernelPath: '/nonexistent',
      initrdPath: '/nonexistent',
      kernelArgs: [],
      disks: [{ path: diskPath, format: 'raw', readOnly: false }],
      network: { netnsName: undefined, tapName: 'tap0', guestMac: '02:fc:00:00:00:05' },
      runDir,
      consolePath: join(runRoot, `${vmId}.log`),
    };
  };
  return {
    driver: { kind: 'fake', runRoot, instance: 'fake00', cacheDir: runRoot },
    createSpec,
    createSilentSpec: createSpec,
    createDoomedSpec: createSpec,
    createDriver: (nature, bootWatchdog) => {
      const failures: FakeFailures = nature === 'silent' ? { silentBoots: 1000 } : { diesDuringBoot: true };
      return createFakeDriver({ runRoot, logger, failures, bootWatchdog });
    },
    boundsVms: false,
    cleanUp: () => rm(runRoot, { recursive: true, force: true }),
  };
});
