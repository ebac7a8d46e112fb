import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { runCommand } from '@nestbox/kit';

/** A documentation range (RFC 5737), so that nothing real is behind it. */
const NETWORK = '198.51.100';

export interface OutsideServer extends AsyncDisposable {
  /** Both say "hello" on port 80 and echo what they get. */
  readonly addresses: readonly [string, string];
}

const SERVER = `
const { createServer } = require('node:net');
createServer((socket) => { socket.on('error', () => {}); socket.write('hello\\n'); socket.pipe(socket); })
  .listen(80, '0.0.0.0', 1024, () => console.log('listening'));
process.stdin.resume().on('end', () => process.exit());
`;

/** A server that is outside of this machine as far as sandboxes can tell: in a network namespace of its own, at addresses that begin so. */
export async function startOutsideServer(network = NETWORK): Promise<OutsideServer> {
  const addresses = [`${network}.242`, `${network}.243`] as const;
  const name = `world${process.pid}${network.slice(0, 3)}`;
  await using undo = new AsyncDisposableStack();
  await runCommand('ip', ['netns', 'add', name]);
  undo.defer(async () => {
    await runCommand('ip', ['netns', 'del', name]);
  });
  await runCommand('ip', ['-batch', '-'], {
    input: `link add ${name} type veth peer name eth0 netns ${name}
addr add ${network}.241/28 dev ${name}
link set ${name} up
`,
  });
  // A connection that a guest has left in the middle keeps the namespace for minutes; nobody sees it without its link.
  undo.defer(async () => {
    await runCommand('ip', ['link', 'del', name]);
  });
  await runCommand('ip', ['-n', name, '-batch', '-'], {
    input: [
      'link set lo up',
      ...addresses.map((address) => `addr add ${address}/28 dev eth0`),
      'link set eth0 up',
      '',
    ].join('\n'),
  });
  const server = spawn('nsenter', [`--net=/run/netns/${name}`, '--', process.execPath, '-e', SERVER], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  undo.defer(async () => {
    server.stdin.end();
    await once(server, 'exit');
  });
  await once(server.stdout, 'data');
  const everything = undo.move();
  return { addresses, [Symbol.asyncDispose]: () => everything.disposeAsync() };
}
