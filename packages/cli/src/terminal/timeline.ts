/** A span of time to be drawn. */
export interface Bar {
  readonly name: string;
  /** From the begin of the whole. */
  readonly startMs: number;
  readonly durationMs: number;
}

const LONGEST_NAME = 32;
const SHORTEST_CHART = 10;
const FULL = '█';
/** For what is shorter than half a cell, so that nothing that was measured is without a mark. */
const SLIVER = '▏';

/** When the last of the bars ends. */
export function endOf(bars: readonly Bar[]): number {
  return Math.max(0, ...bars.map(({ startMs, durationMs }) => startMs + durationMs));
}

/**
 * A line a bar – name, milliseconds, and the bar where it began and as long as it took – in the order of their begins,
 * with the whole above them. Bars may overlap. `columns` is what the lines may take; they have a chart of
 * SHORTEST_CHART cells at least.
 */
export function formatTimeline(bars: readonly Bar[], columns: number): string {
  const totalMs = endOf(bars);
  const inOrder = bars.toSorted((a, b) => a.startMs - b.startMs || b.durationMs - a.durationMs);
  const lines = [{ name: 'total', startMs: 0, durationMs: totalMs }, ...inOrder].map((bar) => ({
    bar,
    name: bar.name.length > LONGEST_NAME ? `${bar.name.slice(0, LONGEST_NAME - 1)}…` : bar.name,
    time: formatMilliseconds(bar.durationMs),
  }));
  const nameWidth = Math.max(...lines.map(({ name }) => name.length));
  const timeWidth = Math.max(...lines.map(({ time }) => time.length));
  const indent = '  ';
  const chartWidth = Math.max(SHORTEST_CHART, columns - indent.length - nameWidth - 2 - timeWidth - 2);
  return lines
    .map(({ bar, name, time }) =>
      `${indent}${name.padEnd(nameWidth)}  ${time.padStart(timeWidth)}  ${draw(bar, totalMs, chartWidth)}`.trimEnd(),
    )
    .join('\n');
}

function draw({ startMs, durationMs }: Bar, totalMs: number, width: number): string {
  if (totalMs === 0) return '';
  const cell = (ms: number) => Math.min(width, Math.max(0, Math.round((ms / totalMs) * width)));
  const from = cell(startMs);
  const to = cell(startMs + durationMs);
  // A sliver at the very end must not stick out.
  if (to === from) return ' '.repeat(Math.min(from, width - 1)) + SLIVER;
  return ' '.repeat(from) + FULL.repeat(to - from);
}

/** `0.4 ms`, `12.3 ms`, `412 ms`: all in one unit, so that lines can be compared. */
export function formatMilliseconds(ms: number): string {
  return `${ms.toFixed(ms < 99.95 ? 1 : 0)} ms`;
}
