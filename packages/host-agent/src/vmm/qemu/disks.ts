import { basename, dirname } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { z } from 'zod';
import { giveFile, keepFile } from '../jail/hand-over.ts';
import type { QemuVm } from './qemu-vm.ts';

const SWITCH_DEADLINE_MS = 30_000;
const QUERY_DEADLINE_MS = 5000;
const FLATTEN_POLL_MS = 100;
const END_POLL_MS = 5;
const FLATTEN_JOB = 'flatten';

/** The device of the root disk, as command-line.ts names it. */
const ROOT_DEVICE = 'vd0';

const queryBlock = z.array(
  z.object({
    qdev: z.string().optional(),
    inserted: z.object({ file: z.string(), 'node-name': z.string() }).optional(),
  }),
);
const queryNodes = z.array(z.object({ file: z.string(), drv: z.string(), 'node-name': z.string() }));
const queryJobs = z.array(z.object({ id: z.string(), status: z.string(), error: z.string().optional() }));

export interface RootDisk {
  readonly path: string;
  readonly nodeName: string;
}

/** The node that the guest's root disk is written to. */
export async function rootDisk(vm: QemuVm, signal?: AbortSignal): Promise<RootDisk> {
  if (!vm.isOwn && !takenOver.has(vm)) {
    await endFlattening(vm);
    takenOver.add(vm);
  }
  const devices = queryBlock.parse(await vm.execute('query-block', {}, QUERY_DEADLINE_MS, signal));
  const found = devices.find(({ qdev }) => qdev?.split('/').includes(ROOT_DEVICE))?.inserted;
  if (found === undefined) throw new NestboxError('internal', 'QEMU does not name a root disk.');
  const path = plainPath(found.file);
  rootFolders.set(vm, dirname(path));
  return { path, nodeName: found['node-name'] };
}

/** VMs of a host agent before this one, which may have been killed while it flattened a disk. */
const takenOver = new WeakSet<QemuVm>();

const rootFolders = new WeakMap<QemuVm, string>();

/** Where the root disk's layers are, which stays as it is while the VM runs: asked for once. */
export async function rootFolder(vm: QemuVm, signal?: AbortSignal): Promise<string> {
  return rootFolders.get(vm) ?? dirname((await rootDisk(vm, signal)).path);
}

const describedDisk = z.object({ file: z.object({ filename: z.string() }) });

/** QEMU describes a disk whose layers are not as its header says, which is so after a merge, in place of naming its file. */
function plainPath(file: string): string {
  if (!file.startsWith('json:')) return file;
  return describedDisk.parse(JSON.parse(file.slice('json:'.length))).file.filename;
}

/** Sees to it that the file that was written to so far is never written to again. */
export async function switchDisk(vm: QemuVm, newPath: string, signal?: AbortSignal): Promise<void> {
  const { nodeName, path } = await rootDisk(vm, signal);
  giveFile(newPath, vm.userId);
  await vm.execute(
    'blockdev-snapshot-sync',
    {
      'node-name': nodeName,
      'snapshot-file': newPath,
      // Node names are at most 31 characters; files are named uniquely.
      'snapshot-node-name': `n-${basename(newPath, '.qcow2')}`.slice(0, 31),
      format: 'qcow2',
      mode: 'existing',
    },
    SWITCH_DEADLINE_MS,
    signal,
  );
  keepFile(path);
}

/** Copies what lies between into the top file, then writes the lowest one's name into its header. */
export async function flattenDisk(vm: QemuVm, basePath: string, signal?: AbortSignal): Promise<void> {
  const top = await rootDisk(vm, signal);
  const nodes = queryNodes.parse(
    await vm.execute('query-named-block-nodes', { flat: true }, QUERY_DEADLINE_MS, signal),
  );
  const base = nodes.find(({ file, drv }) => drv === 'raw' && basename(file) === basename(basePath));
  if (base === undefined) throw new NestboxError('internal', `The VM has no disk ${basePath} below its own.`);
  await vm.execute(
    'block-stream',
    {
      'job-id': FLATTEN_JOB,
      device: top.nodeName,
      'base-node': base['node-name'],
      // Relative, as in every file of ours: the folder can be moved.
      'backing-file': basename(basePath),
      'auto-dismiss': false,
    },
    SWITCH_DEADLINE_MS,
    signal,
  );
  try {
    await jobEnd(vm, signal);
  } finally {
    await endFlattening(vm).catch(() => undefined);
  }
}

/**
 * A job that goes on is ended, one that is over is forgotten. While one is there, over or not, the disk takes no other layer, and a
 * second one ends QEMU 7.2 by a segmentation fault.
 */
async function endFlattening(vm: QemuVm): Promise<void> {
  for (const endsAt = performance.now() + SWITCH_DEADLINE_MS; performance.now() < endsAt; ) {
    const jobs = queryJobs.parse(await vm.execute('query-jobs', {}, QUERY_DEADLINE_MS));
    const job = jobs.find(({ id }) => id === FLATTEN_JOB);
    if (job === undefined) return;
    const command = job.status === 'concluded' ? 'job-dismiss' : 'job-cancel';
    // One that has come to its end meanwhile refuses it; then it is dismissed.
    await vm.execute(command, { id: FLATTEN_JOB }, QUERY_DEADLINE_MS).catch(() => undefined);
    if (command === 'job-cancel') await new Promise((done) => setTimeout(done, END_POLL_MS).unref());
  }
}

async function jobEnd(vm: QemuVm, signal: AbortSignal | undefined): Promise<void> {
  for (;;) {
    const jobs = queryJobs.parse(await vm.execute('query-jobs', {}, QUERY_DEADLINE_MS, signal));
    const job = jobs.find(({ id }) => id === FLATTEN_JOB);
    if (job === undefined) return;
    if (job.error !== undefined) throw new NestboxError('internal', `QEMU could not flatten the disk: ${job.error}`);
    if (job.status === 'concluded') return;
    await new Promise((done) => setTimeout(done, FLATTEN_POLL_MS).unref());
    signal?.throwIfAborted();
  }
}
