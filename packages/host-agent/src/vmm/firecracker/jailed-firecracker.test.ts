import { describeDriverConformance } from '../conformance.ts';
import { createJailedStandIn } from '../testing/firecracker-bench.ts';
import { createStandInBench, whyNoDescription } from '../testing/stand-in-bench.ts';

describeDriverConformance(
  'Firecracker, in the jail of its jailer,',
  async () => {
    const bench = await createStandInBench('firecracker');
    const { runRoot, instance, folder } = bench;
    const planPath = await bench.writePlan();
    const flawed = { silent: await bench.writePlan({ silent: true }), doomed: await bench.writePlan({ doomed: true }) };
    return {
      driver: { kind: 'jailed-firecracker', runRoot, instance, cacheDir: folder, planPath },
      createSpec: () => bench.createSpec(),
      createSilentSpec: () => bench.createSpec(),
      createDoomedSpec: () => bench.createSpec(),
      createDriver: (nature, bootWatchdog) =>
        createJailedStandIn({ runRoot, instance, planPath: flawed[nature], bootWatchdog }),
      boundsVms: true,
      cleanUp: bench.remove,
    };
  },
  { skip: whyNoDescription('firecracker') },
);
