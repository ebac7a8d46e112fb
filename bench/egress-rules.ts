import assert from 'node:assert/strict';
import type { Sandbox } from 'e2b';
import { startOutsideServer } from '../test/support/outside-server.ts';
import { describeSeries, type Measure } from './measure.ts';
import { interleave } from './series.ts';

const CONNECTIONS_A_ROUND = 300;
const RULES = 500;

/** Connects again and again, waits for the first byte each time, and prints the mean in milliseconds. */
const CLIENT = `
const { connect } = require('node:net');
const [, , address, count] = process.argv;
const once = () => new Promise((resolve, reject) => {
  const socket = connect(80, address, () => {});
  socket.once('data', () => { socket.destroy(); resolve(); }).once('error', reject);
});
(async () => {
  for (let i = 0; i < 20; i++) await once();
  const begun = performance.now();
  for (let i = 0; i < Number(count); i++) await once();
  console.log((performance.now() - begun) / Number(count));
})();
`;

/** The same sandbox without rules and with many, in turn. */
export async function measureEgressRules(sandbox: Sandbox, rounds: number): Promise<Measure> {
  await using outside = await startOutsideServer();
  const [address] = outside.addresses;
  const others = Array.from({ length: RULES - 2 }, (_, index) => `203.0.${100 + (index >> 7)}.${(index & 127) * 2}`);
  await sandbox.files.write('/tmp/connect.cjs', CLIENT);
  const connect = async () => {
    const { stdout } = await sandbox.commands.run(`node /tmp/connect.cjs ${address} ${CONNECTIONS_A_ROUND}`);
    const meanMs = Number(stdout);
    assert.ok(meanMs > 0, stdout);
    return meanMs;
  };
  const { ours, floor } = await interleave(
    rounds,
    async () => {
      await sandbox.updateNetwork({ denyOut: ['0.0.0.0/0'], allowOut: [...others, address] });
      return connect();
    },
    async () => {
      await sandbox.updateNetwork({});
      return connect();
    },
  );
  return {
    title: `Connection set-up with ${RULES} egress rules`,
    ours: describeSeries(ours, 'ms', 2),
    floor: describeSeries(floor, 'ms', 2),
    judged: ours.median / floor.median,
    limit: { kind: 'at most', value: 1.1, unit: '×' },
    method: `A program in the sandbox connects to a server outside and waits for its first byte, ${CONNECTIONS_A_ROUND} times one after the other; everything denied but ${RULES - 1} addresses, against no rules.`,
  };
}
