import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const INSIDE = 'NESTBOX_TEST_PRIVATE_HOST';

/** A machine to itself: own interfaces, routes, rules and sysctls; own /run, so own namespaces and claims; /sys to match. */
const ENTER = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 nestbox-test /run
mount -t sysfs nestbox-test /sys
ip link set lo up
exec "$@"`;

/**
 * Runs a test file once more in network and mount namespaces of its own, in which it plays the host. Nothing of the real
 * host is seen or changed, files run side by side, and whatever a crashed test leaves goes with its namespaces.
 * True inside: register the tests. Without root, one skipped test says so.
 */
export function insidePrivateHost(testFile: string): boolean {
  if (process.env[INSIDE] === '1') return true;
  if (process.geteuid?.() !== 0) {
    test('network tests', { skip: 'need root, to make network namespaces of their own' }, () => undefined);
    return false;
  }
  const command = ['sh', '-c', ENTER, 'sh', process.execPath, ...process.execArgv, testFile];
  const { status, error } = spawnSync('unshare', ['--net', '--mount', '--', ...command], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  if (error !== undefined) throw error;
  process.exitCode = status ?? 1;
  return false;
}
