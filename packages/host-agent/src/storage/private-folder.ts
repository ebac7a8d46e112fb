import { chmod, mkdir } from 'node:fs/promises';

/** Makes a folder into which root alone can go, whatever the files in it let others do; one that is there becomes such a folder. */
export async function makePrivateFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}
