import { rename, rm, stat } from 'node:fs/promises';
import { mergeIntoImage } from '../memory/memory-image.ts';
import { machineFiles } from '../storage/machine-folder.ts';

/** Replaces a machine folder's memory image by one that has the pages of its state as well. Other folders keep the old one. */
export async function foldPagesIntoImage(folder: string): Promise<void> {
  const files = machineFiles(folder);
  const hasMap = await stat(files.memoryMap).then(
    () => true,
    () => false,
  );
  const merged = { path: `${files.memory}.new`, mapPath: `${files.memoryMap}.new` };
  await mergeIntoImage({ path: files.memory, mapPath: hasMap ? files.memoryMap : undefined }, files.pages, merged);
  await rename(merged.path, files.memory);
  await rename(merged.mapPath, files.memoryMap);
  await rm(files.pages);
}
