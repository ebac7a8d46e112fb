import { open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { NestboxError } from '@nestbox/contract';
import { openPageFile, writePageMap } from '../../memory/page-file.ts';
import { PAGE_BYTES, type PageRuns } from '../../memory/page-runs.ts';
import type { SavedState, VmHandle, VmMachine, VmState } from '../driver.ts';

/** In the run folder: the path of the disk in use. */
const DISK_FILE = 'disk';
/** In the run folder: what the fake guest has in the first page of its memory, as text. A test may write it. */
const MEMORY_FILE = 'memory';

export function fakeRunFiles(runDir: string) {
  return { disk: join(runDir, DISK_FILE), memory: join(runDir, MEMORY_FILE) } as const;
}

export async function removeRunFiles(runDir: string): Promise<void> {
  for (const path of Object.values(fakeRunFiles(runDir))) await rm(path, { force: true });
}

/** Writes real files: devices by name, and the first pages of the memory in the format that every driver uses. */
export async function saveFakeState(
  handle: VmHandle,
  memoryPath: string,
  state: VmState,
  changedPages: number,
): Promise<SavedState> {
  const { size: memoryBytes } = await stat(memoryPath);
  await writeFile(state.devicesPath, devicesOf(handle.vmId), { flag: 'wx' });
  if (state.pagesPath === undefined) return { changedPages: 0 };
  const pages = Buffer.alloc(changedPages * PAGE_BYTES);
  (await readFile(fakeRunFiles(handle.runDir).memory)).copy(pages, 0, 0, PAGE_BYTES);
  const runs: PageRuns = Uint32Array.of(0, changedPages);
  writePageMap(state.pagesPath, { memoryBytes, runs, pageCount: changedPages, crc: crc32(pages) });
  // A map is a page file without its pages.
  await using file = await open(state.pagesPath, 'a');
  await file.writeFile(pages);
  return { changedPages };
}

/** Reads and checks a saved state; answers the text in its memory. Throws snapshot_damaged. */
export async function loadFakeState(machine: VmMachine, { devicesPath, pagesPath }: VmState): Promise<string> {
  const devices = await readFile(devicesPath, 'utf8');
  if (!/^devices of \S+\n$/.test(devices)) throw damaged(devicesPath);
  const memoryBytes = machine.memoryMib * 2 ** 20;
  const first = Buffer.alloc(PAGE_BYTES);
  if (pagesPath === undefined) {
    await using image = await open(machine.memoryPath, 'r');
    if ((await image.stat()).size !== memoryBytes) throw damaged(machine.memoryPath);
    await image.read(first, 0, PAGE_BYTES, 0);
  } else {
    const pages = openPageFile(pagesPath);
    if (pages.table.memoryBytes !== memoryBytes) throw damaged(pagesPath);
    await pages.forEachPart((firstPage, part) => {
      if (firstPage === 0) part.copy(first, 0, 0, PAGE_BYTES);
    });
  }
  return first.toString('utf8').replace(/\0+$/, '');
}

function devicesOf(vmId: string): string {
  return `devices of ${vmId}\n`;
}

function damaged(path: string): NestboxError {
  return new NestboxError('snapshot_damaged', `The fake VMM refuses ${path}.`);
}
