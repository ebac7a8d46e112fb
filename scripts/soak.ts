/**
 * `npm run soak [-- --cycles N]`: pauses and resumes one sandbox a thousand times and compares memory, disk, tmpfs,
 * connections and clock with what they were. Ends with exit code 1 at any difference.
 */
import { parseArgs } from 'node:util';
import { startServer } from '../test/support/server.ts';
import { soak } from '../test/support/soak.ts';
import { makeStateFolder, vmsCannotRun } from '../test/support/state-folder.ts';
import { prepareHost } from './support/prepare-host.ts';

const MAX_CLOCK_MS = 50;
const REPORT_EVERY = 25;

const { values } = parseArgs({ options: { cycles: { type: 'string', default: '1000' } } });
const cycles = Number(values.cycles);
if (!(Number.isInteger(cycles) && cycles > 0)) throw new Error('--cycles is a whole number above 0');
if (!(await prepareHost())) throw new Error('this machine could not be set up');
const reason = vmsCannotRun();
if (reason !== false) throw new Error(`nothing can be paused: ${reason}`);

const begunMs = performance.now();
await using paths = await makeStateFolder();
await using server = await startServer(paths);
const report = await soak(server, paths, cycles, (cycle, { differences, worstClockMs }) => {
  if (cycle % REPORT_EVERY !== 0 && cycle !== cycles) return;
  const perCycleMs = Math.round((performance.now() - begunMs) / cycle);
  console.log(
    `${cycle} cycles, ${differences} differences, clock ${worstClockMs.toFixed(1)} ms at most, ${perCycleMs} ms each`,
  );
});
if (report.differences > 0 || report.worstClockMs > MAX_CLOCK_MS) process.exitCode = 1;
