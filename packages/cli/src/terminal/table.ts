/**
 * Lays rows out in columns under their heads, two spaces apart. Columns whose heads are in `right` are of numbers and end
 * at one place. No space at the ends of lines.
 */
export function formatTable(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly string[] = [],
): string {
  const all = [heads, ...rows];
  const columns = heads.map((head, column) => ({
    width: Math.max(...all.map((row) => row[column]?.length ?? 0)),
    right: right.includes(head),
  }));
  return all
    .map((row) =>
      columns
        .map(({ width, right }, column) => {
          const cell = row[column] ?? '';
          return right ? cell.padStart(width) : cell.padEnd(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
