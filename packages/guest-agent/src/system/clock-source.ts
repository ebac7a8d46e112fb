import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = '/sys/devices/system/clocksource/clocksource0';
const PROCESSOR = 'tsc';

/**
 * Makes the kernel read the time by the best counter that is not the processor's own, if it reads that one. Returns the name of the counter
 * by which it reads the time then. Throws Node's error when the kernel refuses, and Error when it has no other.
 */
export function leaveProcessorCounter(folder: string = FOLDER): string {
  const words = (file: string) => readFileSync(join(folder, file), 'utf8').trim().split(/\s+/);
  const [current = ''] = words('current_clocksource');
  if (current !== PROCESSOR) return current;
  // The best one is named first.
  const other = words('available_clocksource').find((name) => name !== PROCESSOR);
  if (other === undefined) throw new Error('the kernel knows no other clock source than tsc');
  writeFileSync(join(folder, 'current_clocksource'), other);
  return other;
}
