import type { Machine } from './machine.ts';
import { isMet, type Measure } from './measure.ts';
import type { StageFigure } from './stages.ts';

/** The page docs/benchmarks.md. */
export function formatReport(
  machine: Machine,
  measures: readonly Measure[],
  rounds: number,
  stages: readonly StageFigure[],
): string {
  return `# Benchmarks

Written by \`npm run bench\`; a figure here is what that command measured, never edited by hand. Where a limit is a ratio, both
sides were measured in turn in the same run, since absolute times differ from machine to machine and from hour to hour.
Figures are medians of ${rounds} rounds, with the smallest and the largest in brackets.

| machine | |
|---|---|
${machine.facts.map(([name, value]) => `| ${name} | ${value} |`).join('\n')}

| what | Nestbox | floor | result | limit | |
|---|---|---|---|---|---|
${measures.map(formatRow).join('\n')}

## Where the time of a create goes

A restore without a warm pool, in the order in which its parts begin; some overlap. The same for any sandbox: the response's
\`Server-Timing\` header, and \`nestbox trace <id>\`.

| part | begins after | takes |
|---|---|---|
${stages.map(({ name, startMs, durationMs }) => `| ${name} | ${startMs.toFixed(1)} ms | ${durationMs.toFixed(1)} ms |`).join('\n')}

## How each was measured

${measures.map(({ title, method }) => `- **${title}.** ${method}`).join('\n')}
`;
}

function formatRow(measure: Measure): string {
  const { title, ours, floor, judged, limit } = measure;
  const sign = limit.kind === 'at most' ? '≤' : '≥';
  const result = `${formatNumber(judged)} ${limit.unit}`;
  const met = isMet(measure);
  const bar = met === undefined ? '–' : `${sign} ${limit.value} ${limit.unit}`;
  const verdict = met === undefined ? '' : met ? 'met' : '**missed**';
  return `| ${title} | ${ours} | ${floor ?? '–'} | ${result} | ${bar} | ${verdict} |`;
}

function formatNumber(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2);
}
