import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { countPages, type PageRuns, RunBuilder, subtract, unite } from './page-runs.ts';

const MOST_PAGES = 60;
const pageSets = fc.uniqueArray(fc.nat({ max: MOST_PAGES - 1 })).map((pages) => new Set(pages));

function toRuns(pages: ReadonlySet<number>): PageRuns {
  const runs = new RunBuilder();
  for (const page of [...pages].sort((a, b) => a - b)) runs.add(page, 1);
  return runs.runs();
}

function toPages(runs: PageRuns): Set<number> {
  const pages = new Set<number>();
  for (let index = 0; index < runs.length; index += 2)
    for (let page = 0; page < (runs[index + 1] ?? 0); page++) pages.add((runs[index] ?? 0) + page);
  return pages;
}

test('runs are united and taken from each other as the sets of their pages are', () => {
  fc.assert(
    fc.property(pageSets, pageSets, (a, b) => {
      const [runsOfA, runsOfB] = [toRuns(a), toRuns(b)];
      assert.deepEqual(toPages(unite(runsOfA, runsOfB)), new Set([...a, ...b]));
      const left = subtract(runsOfA, runsOfB);
      const expected = [...a].filter((page) => !b.has(page)).sort((x, y) => x - y);
      assert.deepEqual([...toPages(left)], expected);
      assert.equal(countPages(left), expected.length);
    }),
  );
});
