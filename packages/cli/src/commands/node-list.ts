import type { Node } from '@nestbox/contract/http';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { formatBytes } from '../terminal/format-bytes.ts';
import { vmmWords } from '../terminal/node-facts.ts';
import { formatTable } from '../terminal/table.ts';

export function addNodeList(node: Command): void {
  node
    .command('list')
    .description('list the hosts: how they stand, what they have promised to sandboxes, what runs the VMs')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const nodes = await api.listNodes(guard.signal);
      if (options.json) console.log(JSON.stringify(nodes));
      else if (nodes.length === 0) console.log('No host.');
      else console.log(nodeTable(nodes));
    });
}

const NUMBERS = ['SANDBOXES', 'PAUSED', 'VCPUS', 'MEMORY', 'CPU'];

function nodeTable(nodes: readonly Node[]): string {
  return formatTable(
    ['NODE', 'STATUS', ...NUMBERS, 'VMM'],
    nodes.map(({ id, status, sandboxCount, pausedSandboxCount, metrics, vmm }) => [
      id,
      status,
      String(sandboxCount),
      String(pausedSandboxCount),
      `${metrics.allocatedCPU}/${metrics.cpuCount}`,
      `${formatBytes(metrics.allocatedMemoryBytes)}/${formatBytes(metrics.memoryTotalBytes)}`,
      `${metrics.cpuPercent}%`,
      vmm === undefined ? '-' : vmmWords(vmm),
    ]),
    NUMBERS,
  );
}
