import { describeDriverConformance } from '../conformance.ts';
import { createStandInCloudHypervisor } from '../testing/cloud-hypervisor-bench.ts';
import { createStandInBench, whyNoDescription } from '../testing/stand-in-bench.ts';

describeDriverConformance(
  'Cloud Hypervisor',
  async () => {
    const bench = await createStandInBench('cloud-hypervisor');
    const { runRoot, instance, folder } = bench;
    const planPath = await bench.writePlan();
    const flawed = { silent: await bench.writePlan({ silent: true }), doomed: await bench.writePlan({ doomed: true }) };
    return {
      driver: { kind: 'cloud-hypervisor', runRoot, instance, cacheDir: folder, planPath },
      createSpec: () => bench.createSpec(),
      createSilentSpec: () => bench.createSpec(),
      createDoomedSpec: () => bench.createSpec(),
      createDriver: (nature, bootWatchdog) =>
        createStandInCloudHypervisor({ runRoot, instance, planPath: flawed[nature], bootWatchdog }),
      boundsVms: true,
      cleanUp: bench.remove,
    };
  },
  { skip: whyNoDescription('cloud-hypervisor') },
);
