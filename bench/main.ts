/**
 * `npm run bench [-- --rounds N] [--size-mib N] [--stdout]`: measures Nestbox against the bare floor in the same run and
 * writes docs/benchmarks.md. Wants root, a machine that is set up, and nothing else to do.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { resolvePaths } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { formatSeconds } from '../packages/cli/src/terminal/format-seconds.ts';
import { prepareHost } from '../scripts/support/prepare-host.ts';
import { ROOT } from '../scripts/support/repository.ts';
import { startServer } from '../test/support/server.ts';
import { makeStateFolder, vmsCannotRun } from '../test/support/state-folder.ts';
import { measureApi } from './api-rate.ts';
import { measureColdBoot } from './cold-boot.ts';
import { measureCommand } from './command-round-trip.ts';
import { measureEdgeProxy } from './edge-proxy.ts';
import { measureEgressRules } from './egress-rules.ts';
import { startGuestServer } from './guest-server.ts';
import { measureKeystrokes, measureProxyUnderLoad } from './keystroke-echo.ts';
import { describeMachine } from './machine.ts';
import type { Measure } from './measure.ts';
import { measureNativeAgent } from './native-guest-agent.ts';
import { formatReport } from './report.ts';
import { measureServer } from './server-footprint.ts';
import { measureSnapshots } from './snapshots.ts';
import type { StageFigure } from './stages.ts';
import { measureTransfers } from './transfer.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    'size-mib': { type: 'string', default: '256' },
    stdout: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const sizeMib = Number(values['size-mib']);
if (!(Number.isInteger(rounds) && rounds > 0 && Number.isInteger(sizeMib) && sizeMib > 0))
  throw new Error('--rounds and --size-mib are whole numbers above 0');

await prepareHost();
const reason = vmsCannotRun();
if (reason !== false) throw new Error(`nothing can be measured: ${reason}`);

const machine = await describeMachine(resolvePaths());
const measures: Measure[] = [];
let stages: readonly StageFigure[] = [];
await section('control API', measureApi);
await section('guest agent', () => measureNativeAgent(rounds));
{
  await using paths = await makeStateFolder();
  await section('server', () => measureServer(paths, Math.min(rounds, 5)));
  {
    await using booting = await startServer(paths, ['--no-snapshots']);
    await section('cold boot', async () => [await measureColdBoot(booting, paths, machine, rounds)]);
  }
  await section('snapshots', async () => {
    const found = await measureSnapshots(paths, machine, rounds);
    stages = found.stages;
    return found.measures;
  });
  await using server = await startServer(paths);
  const sandbox = await Sandbox.create({ ...server.connection, timeoutMs: 3_600_000 });
  await section('commands', async () => [await measureCommand(sandbox, paths, rounds)]);
  await section('edge', async () => {
    const guest = await startGuestServer(sandbox, paths);
    return [
      ...(await measureEdgeProxy(server, guest, rounds, sizeMib)),
      await measureKeystrokes(server, sandbox, guest),
      await measureProxyUnderLoad(),
    ];
  });
  await section('egress rules', async () => [await measureEgressRules(sandbox, rounds)]);
  await section('transfers', () => measureTransfers(sandbox, server.sandboxUrl, paths, rounds, sizeMib));
}
const report = formatReport(machine, measures, rounds, stages);
if (values.stdout) console.log(report);
else await writeFile(join(ROOT, 'docs', 'benchmarks.md'), report);

async function section(name: string, measure: () => Promise<Measure[]>): Promise<void> {
  const begunMs = performance.now();
  const found = await measure();
  measures.push(...found);
  console.error(`${name} measured in ${formatSeconds(performance.now() - begunMs)}`);
  for (const { title, ours, floor } of found) console.error(`  ${title}: ${ours}${floor ? `, floor ${floor}` : ''}`);
}
