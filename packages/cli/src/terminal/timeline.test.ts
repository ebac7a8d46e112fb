import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatTimeline } from './timeline.ts';

test('bars stand where they began, as long as they took, overlapping or not, with the whole above them', () => {
  const bars = [
    { name: 'boot', startMs: 50, durationMs: 50 },
    { name: 'disk', startMs: 0, durationMs: 50 },
    { name: 'network', startMs: 25, durationMs: 50 },
    { name: 'ready', startMs: 99.9, durationMs: 0.1 },
  ];
  assert.equal(
    formatTimeline(bars, 40),
    [
      '  total     100 ms  ████████████████████',
      '  disk     50.0 ms  ██████████',
      '  network  50.0 ms       ██████████',
      '  boot     50.0 ms            ██████████',
      '  ready     0.1 ms                     ▏',
    ].join('\n'),
  );
});

test('no bars, and bars of no length, are drawn without a chart', () => {
  assert.equal(formatTimeline([], 80), '  total  0.0 ms');
  assert.equal(formatTimeline([{ name: 'a', startMs: 0, durationMs: 0 }], 80), '  total  0.0 ms\n  a      0.0 ms');
});

test('whatever the bars, each has its line and its mark, and no line is wider than the terminal', () => {
  const ms = fc.double({ min: 0, max: 1e6, noNaN: true });
  const bars = fc.array(fc.record({ name: fc.string({ maxLength: 50 }), startMs: ms, durationMs: ms }), {
    minLength: 1,
  });
  fc.assert(
    fc.property(bars, fc.integer({ min: 70, max: 300 }), (some, columns) => {
      const lines = formatTimeline(some, columns).split('\n');
      if (some.some(({ name }) => name.includes('\n'))) return;
      assert.equal(lines.length, some.length + 1);
      for (const line of lines) assert.ok(line.length <= columns, line);
      if (some.every(({ startMs, durationMs }) => startMs + durationMs < 0.1)) return;
      for (const line of lines) assert.match(line, /[█▏]$/);
    }),
  );
});
