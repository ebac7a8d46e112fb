import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { ROOT } from '../support/repository.ts';

/** Real input for the program in the sandbox: this checkout's source files, as CSV `package,file,lines`. */
export async function censusOfSources(): Promise<{ csv: string; fileCount: number; lineCount: number }> {
  const files = globSync('packages/*/src/**/*.ts', { cwd: ROOT });
  const rows = await Promise.all(
    files.map(async (file) => {
      const lines = (await readFile(`${ROOT}/${file}`, 'utf8')).split('\n').length - 1;
      return { name: file.split('/')[1] ?? '', file, lines };
    }),
  );
  return {
    csv: ['package,file,lines', ...rows.map(({ name, file, lines }) => `${name},${file},${lines}`)].join('\n'),
    fileCount: rows.length,
    lineCount: rows.reduce((sum, { lines }) => sum + lines, 0),
  };
}

/** Runs in the sandbox, and needs nothing but Python. */
export const CENSUS_PROGRAM = `
import collections, csv, statistics, sys

lines = collections.defaultdict(list)
with open(sys.argv[1], newline="") as file:
    for row in csv.DictReader(file):
        lines[row["package"]].append(int(row["lines"]))
for package, counts in sorted(lines.items(), key=lambda item: -sum(item[1])):
    print(f"{package:15} {len(counts):4} files {sum(counts):6} lines, median {statistics.median(counts):.0f}")
print("total", sum(map(len, lines.values())), sum(map(sum, lines.values())))
`;
