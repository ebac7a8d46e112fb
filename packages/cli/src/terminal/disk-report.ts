import type { HostDiskUsage } from '@nestbox/contract/http';
import { damageLines } from './damage-lines.ts';
import { formatBytes } from './format-bytes.ts';
import { formatTable } from './table.ts';

const HEADS = ['KIND', 'ID', 'NAME', 'OWN', 'SHARED', 'MEMORY', 'DISK'];
const SIZES = ['OWN', 'SHARED', 'MEMORY', 'DISK'];

/** What uses how much of one host's disk, the largest first, a line with the totals and the free space, and what is damaged. */
export function formatDiskUsage({ items, freeBytes, totalBytes }: HostDiskUsage): string {
  const largestFirst = items.toSorted((a, b) => b.ownBytes - a.ownBytes || b.sharedBytes - a.sharedBytes);
  const rows = largestFirst.map((item) => [
    item.kind,
    item.id,
    item.name === '' ? '-' : item.name,
    ...[item.ownBytes, item.sharedBytes, item.memoryBytes, item.diskBytes].map(formatBytes),
  ]);
  const free = `${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} are free.`;
  const told = damageLines(items.map(({ kind, id, damage }) => [`${kind} ${id}`, damage]));
  return `${formatTable(HEADS, rows, SIZES)}\n\n${totals(items)}; ${free}${told}`;
}

/** What is shared stands at each item that shares it, so it has no sum. */
function totals(items: HostDiskUsage['items']): string {
  const ownBytes = items.reduce((sum, item) => sum + item.ownBytes, 0);
  return `${items.length} items, ${formatBytes(ownBytes)} of their own`;
}
