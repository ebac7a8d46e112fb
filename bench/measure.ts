/** One line of the report: a figure of ours, what it is compared with, and the limit of the ratio or of the figure. */
export interface Measure {
  readonly title: string;
  /** With its unit. */
  readonly ours: string;
  /** With its unit; undefined when the limit is absolute. */
  readonly floor: string | undefined;
  /** What is judged: a ratio when there is a floor, else the figure itself. */
  readonly judged: number;
  /** Without a kind the figure is only reported. */
  readonly limit: { readonly kind?: 'at most' | 'at least'; readonly value?: number; readonly unit: string };
  /** How it was measured, in a sentence or two. */
  readonly method: string;
}

/** Undefined: there is no limit. */
export function isMet({ judged, limit: { kind, value } }: Measure): boolean | undefined {
  if (kind === undefined || value === undefined) return undefined;
  return kind === 'at most' ? judged <= value : judged >= value;
}

/** `2,310 ms (2,201–2,498, n = 5)` */
export function describeSeries(
  series: { median: number; smallest: number; largest: number; count: number },
  unit: string,
  digits = 0,
): string {
  const format = (value: number) =>
    value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const { median, smallest, largest, count } = series;
  return `${format(median)} ${unit} (${format(smallest)}–${format(largest)}, n = ${count})`;
}
