import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checkMemory,
  checkPlatform,
  checkRoot,
  type Machine,
  parseAvailableMemory,
  readMachine,
} from './machine-checks.ts';

const MACHINE: Machine = {
  platform: 'linux',
  arch: 'x64',
  release: '6.1.0-13-amd64',
  userId: 0,
  availableMemoryBytes: 8 * 2 ** 30,
};

test('a Linux machine of our kind with root and memory meets its needs, and nothing is to be mended', () => {
  for (const check of [checkPlatform(MACHINE), checkRoot(MACHINE), checkMemory(MACHINE)]) {
    assert.equal(check.state, 'ok', check.id);
    assert.equal(check.mend, undefined);
  }
});

test('another system, another processor and an old kernel are told', () => {
  const others = [{ platform: 'darwin' }, { arch: 'arm64' }, { release: '5.4.0-1' }, { release: '4.19.0' }];
  for (const other of others) {
    const check = checkPlatform({ ...MACHINE, ...other });
    assert.equal(check.state, 'failed', JSON.stringify(other));
    assert.ok(check.mend !== undefined);
  }
  assert.equal(checkPlatform({ ...MACHINE, release: '5.10.0' }).state, 'ok');
});

test('a user without root is told to use sudo; little memory is a warning', () => {
  assert.match(checkRoot({ ...MACHINE, userId: 1000 }).mend ?? '', /sudo/);
  assert.equal(checkMemory({ ...MACHINE, availableMemoryBytes: 2 ** 29 }).state, 'warning');
});

test("available memory is the kernel's own estimate", async () => {
  assert.equal(parseAvailableMemory('MemTotal:  100 kB\nMemAvailable:    2048 kB\n'), 2048 * 1024);
  assert.equal(parseAvailableMemory('MemTotal:  100 kB\n'), undefined);
  assert.ok((await readMachine()).availableMemoryBytes > 0);
});
