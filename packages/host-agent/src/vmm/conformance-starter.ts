/**
 * Starts a VM in a process of its own, which the suite then kills like a host agent that crashes.
 * Argument: JSON of { driver, spec }. Prints the handle as one line of JSON, or the error, and waits to be killed.
 */
import { type ConformanceDriver, createConformanceDriver } from './conformance-drivers.ts';
import type { VmSpec } from './driver.ts';

const { driver, spec }: { driver: ConformanceDriver; spec: VmSpec } = JSON.parse(process.argv[2] ?? '');
const handle = await createConformanceDriver(driver).start(spec);
process.stdout.write(`${JSON.stringify(handle)}\n`);
setInterval(() => undefined, 60_000);
