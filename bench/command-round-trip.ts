import assert from 'node:assert/strict';
import type { NestboxPaths } from '@nestbox/kit';
import type { Sandbox } from 'e2b';
import { runCommand } from '../packages/cli/src/client/command-session.ts';
import { connectToGuest } from '../packages/cli/src/client/guest-agent.ts';
import { directGuest } from './direct-guest.ts';
import { describeSeries, type Measure } from './measure.ts';
import { interleave, timed } from './series.ts';

/** Commands a round: one alone is too short to be measured well. */
const COMMANDS_A_ROUND = 10;

export async function measureCommand(sandbox: Sandbox, paths: NestboxPaths, rounds: number): Promise<Measure> {
  const { url, accessToken } = await directGuest(paths, sandbox.sandboxId);
  const guest = { sandboxId: sandbox.sandboxId, accessToken, domain: undefined };
  const direct = connectToGuest({ apiUrl: '', apiKey: '', sandboxUrl: url }, guest);
  const spec = { file: '/bin/bash', args: ['-l', '-c', 'echo ok'], envVars: {}, cwd: undefined, timeoutMs: undefined };
  const perCommand = async (run: () => Promise<string>) => {
    const elapsedMs = await timed(async () => {
      for (let index = 0; index < COMMANDS_A_ROUND; index++) assert.equal(await run(), 'ok\n');
    });
    return elapsedMs / COMMANDS_A_ROUND;
  };
  const byClient = () => perCommand(async () => (await sandbox.commands.run('echo ok')).stdout);
  const directly = () =>
    perCommand(async () => {
      let output = '';
      const collect = async (bytes: Uint8Array) => {
        output += Buffer.from(bytes).toString('utf8');
      };
      const streams = { input: undefined, writeOutput: collect, writeError: collect };
      await runCommand(direct, spec, streams, new AbortController().signal);
      return output;
    });
  // The first commands of a VM are slow whoever asks: nothing is in its caches yet.
  await byClient();
  await directly();
  const { ours, floor } = await interleave(rounds, byClient, directly);
  return {
    title: 'Command, round trip',
    ours: describeSeries(ours, 'ms', 1),
    floor: describeSeries(floor, 'ms', 1),
    judged: ours.median / floor.median,
    limit: { kind: 'at most', value: 1.3, unit: '×' },
    method: `\`commands.run('echo ok')\` of the e2b client through edge and host proxy, against the same \`bash -l -c\` asked of the guest agent at its own address; mean of ${COMMANDS_A_ROUND} commands a round, one after the other.`,
  };
}
