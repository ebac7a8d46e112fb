import { describeDriverConformance } from '../conformance.ts';
import { type ConformanceDriver, createConformanceDriver } from '../conformance-drivers.ts';
import { createStandInBench, whyNoDescription } from './stand-in-bench.ts';

/** The whole suite for a driver whose VM manager a stand-in takes the place of. */
export function describeStandInConformance(
  name: string,
  kind: ConformanceDriver['kind'],
  vmm: Parameters<typeof createStandInBench>[0],
): void {
  describeDriverConformance(
    name,
    async () => {
      const bench = await createStandInBench(vmm);
      const { runRoot, instance, folder } = bench;
      const driver = { kind, runRoot, instance, cacheDir: folder, planPath: await bench.writePlan() };
      const flawed = {
        silent: await bench.writePlan({ silent: true }),
        doomed: await bench.writePlan({ doomed: true }),
      };
      return {
        driver,
        createSpec: () => bench.createSpec(),
        createSilentSpec: () => bench.createSpec(),
        createDoomedSpec: () => bench.createSpec(),
        createDriver: (nature, bootWatchdog) =>
          createConformanceDriver({ ...driver, planPath: flawed[nature], bootWatchdog }),
        boundsVms: true,
        cleanUp: bench.remove,
      };
    },
    { skip: whyNoDescription(vmm) },
  );
}
