import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { Process } from '@nestbox/contract/process';
import { runCommand } from '../packages/cli/src/client/command-session.ts';
import { startNativeAgent } from '../test/support/native-agent.ts';
import { describeSeries, type Measure } from './measure.ts';
import { Series, timed } from './series.ts';

const SEQUENTIAL_COMMANDS = 300;
const AT_ONCE = 64;

/** The guest agent as an ordinary process of this machine: what it costs by itself, without a VM. */
export async function measureNativeAgent(rounds: number): Promise<Measure[]> {
  await using agent = await startNativeAgent();
  const oneConnection = new Series();
  const parallel = new Series();
  for (let round = 0; round < rounds; round++) {
    oneConnection.add(await sequentialRate(agent.url));
    parallel.add(await parallelRate(agent.url));
  }
  return [
    {
      title: 'Guest agent, natively: commands one after the other',
      ours: describeSeries(oneConnection, '/s'),
      floor: undefined,
      judged: oneConnection.median,
      limit: { kind: 'at least', value: 250, unit: '/s' },
      method: `\`echo\` in a shell, ${SEQUENTIAL_COMMANDS} times over one connection; the agent runs on this machine, outside of any VM.`,
    },
    {
      title: `Guest agent, natively: ${AT_ONCE} commands at once`,
      ours: describeSeries(parallel, '/s'),
      floor: undefined,
      judged: parallel.median,
      limit: { kind: 'at least', value: 250, unit: '/s' },
      method: `${AT_ONCE} commands are begun together; each must answer its own output, complete, and exit code 0.`,
    },
  ];
}

async function sequentialRate(url: string): Promise<number> {
  const connection = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const run = echo(url, connection);
    const elapsedMs = await timed(async () => {
      for (let index = 0; index < SEQUENTIAL_COMMANDS; index++) await run(String(index));
    });
    return (SEQUENTIAL_COMMANDS / elapsedMs) * 1000;
  } finally {
    connection.destroy();
  }
}

async function parallelRate(url: string): Promise<number> {
  const connections = new Agent({ keepAlive: true });
  try {
    const run = echo(url, connections);
    const elapsedMs = await timed(() =>
      Promise.all(Array.from({ length: AT_ONCE }, (_, index) => run(String(index).repeat(1000)))),
    );
    return (AT_ONCE / elapsedMs) * 1000;
  } finally {
    connections.destroy();
  }
}

function echo(url: string, agent: Agent): (text: string) => Promise<void> {
  const client = createClient(
    Process,
    createConnectTransport({ baseUrl: url, httpVersion: '1.1', useBinaryFormat: true, nodeOptions: { agent } }),
  );
  return async (text) => {
    let output = '';
    const collect = async (bytes: Uint8Array) => {
      output += Buffer.from(bytes).toString('utf8');
    };
    const { exitCode } = await runCommand(
      client,
      { file: '/bin/sh', args: ['-c', 'echo "$1"', 'sh', text], envVars: {}, cwd: undefined, timeoutMs: undefined },
      { input: undefined, writeOutput: collect, writeError: collect },
      new AbortController().signal,
    );
    assert.deepEqual([exitCode, output], [0, `${text}\n`]);
  };
}
