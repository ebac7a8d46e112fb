import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Activity } from './activity.ts';
import { connectionsFromOutside } from './activity-route.ts';
import { parseCommandLine } from './command-line.ts';
import { socketOf } from './testing/tcp-socket.ts';

test('a request counts as open until it has ended, once', () => {
  const activity = new Activity();
  const first = activity.begin();
  const second = activity.begin();
  assert.equal(activity.openRequests, 2);
  first();
  first();
  assert.equal(activity.openRequests, 1);
  second();
  assert.equal(activity.openRequests, 0);
  assert.ok(activity.lastRequestAtMs > 0);
});

test('connections from outside are those to ports of the sandbox that are not local and not the agent’s', () => {
  const socket = (localAddress: string, localPort: number, state: number) =>
    socketOf({ localAddress, localPort, remoteAddress: '169.254.0.22', remotePort: 1, state });
  const sockets = [
    socket('0.0.0.0', 3000, 10),
    socket('0.0.0.0', 49983, 10),
    socket('169.254.0.21', 3000, 1),
    socket('169.254.0.21', 3000, 1),
    socket('169.254.0.21', 49983, 1),
    socket('127.0.0.1', 3000, 1),
    socket('169.254.0.21', 55555, 1),
    socket('169.254.0.21', 3000, 6),
  ];
  assert.equal(connectionsFromOutside(sockets, 49983), 2);
});

test('the command line has a guest’s values by default, and refuses what it does not know', () => {
  assert.deepEqual(parseCommandLine([]), {
    host: '0.0.0.0',
    port: 49983,
    runtimeDir: '/run/e2b',
    portForwarding: true,
  });
  assert.deepEqual(parseCommandLine(['--listen', '[::1]:80', '--runtime-dir', '/x', '--no-port-forwarding']), {
    host: '::1',
    port: 80,
    runtimeDir: '/x',
    portForwarding: false,
  });
  for (const args of [['--listen', 'nowhere'], ['--listen', 'a:70000'], ['--unknown'], ['stray']]) {
    assert.throws(() => parseCommandLine(args));
  }
});
