import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { NESTBOX_VERSION } from '@nestbox/contract';
import type { NestboxPaths } from '@nestbox/kit';
import { type FileSystemUse, fileSystemsOf } from './machine/file-systems.ts';
import { type MemoryUse, parseMemoryUse } from './machine/memory-use.ts';
import { type Processor, parseProcessor } from './machine/processor.ts';
import { ProcessorUse } from './machine/processor-use.ts';
import { findSourceCommit } from './machine/source-commit.ts';
import type { SandboxManager } from './sandbox/sandbox.ts';
import type { VmDriver, VmmDescription } from './vmm/driver.ts';

export interface HostDescription extends VmmDescription {
  /** That of the host agent. */
  readonly hostId: string;
  /** Another one at each start of the host agent. */
  readonly instanceId: string;
  readonly nestboxVersion: string;
  /** Of the Git checkout that runs here; undefined when it runs from none. */
  readonly commit: string | undefined;
  readonly processor: Processor;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly bootRetries: number;
  readonly usage: HostUsage;
}

/** What is used of the machine, and by how many sandboxes. */
export interface HostUsage {
  readonly measuredAtMs: number;
  /** 0 to 100: of all processors together. */
  readonly cpuPercent: number;
  readonly memory: MemoryUse;
  /** Those that the host agent's folders are on. */
  readonly fileSystems: readonly FileSystemUse[];
  /** All but the paused ones. */
  readonly sandboxCount: number;
  readonly startingCount: number;
  readonly pausedCount: number;
  /** Promised to all but the paused ones. */
  readonly allocatedVcpus: number;
  readonly allocatedMemoryBytes: number;
  /** Since the host agent began. */
  readonly createsSucceeded: number;
  readonly createsFailed: number;
}

interface Described {
  readonly driver: VmDriver;
  readonly manager: SandboxManager;
  readonly paths: NestboxPaths;
  readonly hostId: string;
}

/** Looks at what does not change, and answers what tells how the host is now. That throws what the driver's `describe` throws. */
export async function prepareDescription({ driver, manager, paths, hostId }: Described) {
  const [cpuinfo, commit, processorUse] = await Promise.all([
    readFile('/proc/cpuinfo', 'utf8').catch(() => ''),
    findSourceCommit(import.meta.dirname),
    ProcessorUse.begin(),
  ]);
  const processor = parseProcessor(cpuinfo);
  const instanceId = randomUUID();
  return async (signal?: AbortSignal): Promise<HostDescription> => ({
    ...(await driver.describe(signal)),
    hostId,
    instanceId,
    nestboxVersion: NESTBOX_VERSION,
    commit,
    processor,
    cpuCount: availableParallelism(),
    memoryBytes: totalmem(),
    bootRetries: driver.bootRetries,
    usage: await measureUsage(manager, paths, processorUse),
  });
}

async function measureUsage(
  manager: SandboxManager,
  { stateDir, runDir }: NestboxPaths,
  processorUse: ProcessorUse,
): Promise<HostUsage> {
  const [cpuPercent, meminfo, fileSystems] = await Promise.all([
    processorUse.percent(),
    readFile('/proc/meminfo', 'utf8').catch(() => ''),
    fileSystemsOf([stateDir, runDir]),
  ]);
  const all = manager.list();
  const present = all.filter(({ state }) => state !== 'paused');
  const { succeeded, failed } = manager.createCounts();
  return {
    measuredAtMs: Date.now(),
    cpuPercent,
    memory: parseMemoryUse(meminfo),
    fileSystems,
    sandboxCount: present.length,
    startingCount: present.filter(({ state }) => state === 'starting' || state === 'resuming').length,
    pausedCount: all.length - present.length,
    allocatedVcpus: present.reduce((sum, { vcpuCount }) => sum + vcpuCount, 0),
    allocatedMemoryBytes: present.reduce((sum, { memoryMib }) => sum + memoryMib, 0) * 2 ** 20,
    createsSucceeded: succeeded,
    createsFailed: failed,
  };
}
