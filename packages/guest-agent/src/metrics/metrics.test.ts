import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cpuPercent, MetricsSampler, memoryBytes, parseCpuTimes } from './metrics.ts';

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

test('memory is read in bytes, by whole names at the beginning of a line', () => {
  const text =
    'MemTotal:  2048 kB\nMemAvailable:     1 kB\nSwapCached:   7 kB\nCached:  3 kB\nActive(anon): 5 kB\nOdd: x\n';
  assert.equal(memoryBytes(text, 'MemTotal'), 2_097_152);
  assert.equal(memoryBytes(text, 'MemAvailable'), 1024);
  assert.equal(memoryBytes(text, 'Cached'), 3072);
  for (const name of ['MemFree', 'Total', 'Mem', 'Odd', '']) assert.equal(memoryBytes(text, name), undefined, name);
  assert.equal(memoryBytes('', 'MemTotal'), undefined);
});

test('a sample of this machine adds up', () => {
  const sampler = new MetricsSampler();
  sampler.sample();
  const { ts, cpu_count, cpu_used_pct, mem_total, mem_used, mem_cache, disk_used, disk_total } = sampler.sample();
  assert.ok(Math.abs(ts - Date.now() / 1000) < 5);
  assert.ok(cpu_count >= 1 && cpu_used_pct >= 0 && cpu_used_pct <= 100);
  assert.ok(mem_used > 0 && mem_used < mem_total && mem_cache > 0 && mem_cache < mem_total);
  assert.ok(disk_used > 0 && disk_used <= disk_total);
});

test('no text breaks the parsers', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      memoryBytes(text, 'MemTotal');
      memoryBytes(`MemTotal:${text}`, 'MemTotal');
      parseCpuTimes(`cpu ${text}`);
    }),
  );
});
