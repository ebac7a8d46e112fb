import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cpuPercent, parseCpuTimes, parseMemoryInfo } from './metrics.ts';

test('processor time is everything but idling and waiting for disks', () => {
  const times = parseCpuTimes('cpu  10 20 30 400 50 6 7 8 900 900\ncpu0 1 1 1 1 1 1 1 1 1 1\n');
  assert.deepEqual(times, { busy: 81, total: 531 });
});

test('the share of busy time counts since the sample before, in percent with two decimals', () => {
  assert.equal(cpuPercent({ busy: 100, total: 1000 }, { busy: 133, total: 1300 }), 11);
  assert.equal(cpuPercent({ busy: 0, total: 0 }, { busy: 1, total: 3 }), 33.33);
  assert.equal(cpuPercent({ busy: 5, total: 10 }, { busy: 5, total: 10 }), 0);
  assert.equal(
    cpuPercent({ busy: 50, total: 100 }, { busy: 5, total: 110 }),
    0,
    'a kernel may count idle time backwards',
  );
});

test('memory is read in bytes; lines without a unit are none', () => {
  const memory = parseMemoryInfo(
    'MemTotal:  2048 kB\nMemAvailable:     1 kB\nHugePages_Total:  3\nActive(anon): 5 kB\n',
  );
  assert.deepEqual(
    [...memory],
    [
      ['MemTotal', 2_097_152],
      ['MemAvailable', 1024],
    ],
  );
});

test('no text breaks the parsers', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      parseMemoryInfo(text);
      parseCpuTimes(`cpu ${text}`);
    }),
  );
});
