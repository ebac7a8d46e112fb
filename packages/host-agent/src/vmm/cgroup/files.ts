import { readFile } from 'node:fs/promises';

/** The words of one of the kernel's list files; none when the file is gone. */
export async function readWords(path: string): Promise<string[]> {
  const content = await readFile(path, 'utf8').catch(ignoreMissing(''));
  return content.split(/\s+/).filter((word) => word !== '');
}

/** For `.catch`: the fallback when there is no such file, or (ENODEV) it belongs to a cgroup that has just been removed. */
export function ignoreMissing<T>(fallback: T): (error: unknown) => T {
  return (error) => {
    if (hasErrorCode(error, 'ENOENT') || hasErrorCode(error, 'ENODEV')) return fallback;
    throw error;
  };
}

export function hasErrorCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
