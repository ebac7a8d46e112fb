import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@nestbox/kit';
import { describeDriverConformance } from '../conformance.ts';
import type { VmSpec } from '../driver.ts';
import { createFakeDriver, type FakeFailures } from './fake-driver.ts';

describeDriverConformance('fake', async () => {
  const runRoot = await mkdtemp(join(tmpdir(), 'nestbox-fake-'));
  const logger = createLogger({ level: 'silent' });
  let count = 0;
  const createSpec = async (): Promise<VmSpec> => {
    const sandboxId = `fake${++count}`;
    const runDir = join(runRoot, sandboxId);
    await mkdir(runDir);
    return {
      sandboxId,
      vcpuCount: 1,
      memoryMib: 128,
      kernelPath: '/nonexistent',
      initrdPath: '/nonexistent',
      kernelArgs: [],
      disks: [],
      network: { netnsName: undefined, tapName: 'tap0', guestMac: '02:fc:00:00:00:05' },
      runDir,
      consolePath: join(runRoot, `${sandboxId}.log`),
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
