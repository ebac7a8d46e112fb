import { describeDriverConformance } from '../conformance.ts';
import { createStandInFirecracker } from '../testing/firecracker-bench.ts';
import { createStandInBench, whyNoDescription } from '../testing/stand-in-bench.ts';

describeDriverConformance(
  'Firecracker',
  async () => {
    const bench = await createStandInBench('firecracker');
    const { runRoot, instance, folder } = bench;
    const planPath = await bench.writePlan();
    const flawed = { silent: await bench.writePlan({ silent: true }), doomed: await bench.writePlan({ doomed: true }) };
    return {
      driver: { kind: 'firecracker', runRoot, instance, cacheDir: folder, planPath },
      createSpec: () => bench.createSpec(),
      createSilentSpec: () => bench.createSpec(),
      createDoomedSpec: () => bench.createSpec(),
      createDriver: (nature, bootWatchdog) =>
        createStandInFirecracker({ runRoot, instance, planPath: flawed[nature], bootWatchdog }),
      boundsVms: true,
      cleanUp: bench.remove,
    };
  },
  { skip: whyNoDescription('firecracker') },
);
