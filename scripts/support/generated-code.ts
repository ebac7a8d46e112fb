import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { GENERATED_DIR, installedBin, ROOT } from './repository.ts';

// Imports none of our packages: they need the very code that is made here.

/** Names of the generated files that are not what `proto/` asks for: changed, missing or too many. */
export function findStaleGeneratedFiles(): Promise<string[]> {
  return withFreshCode(async (_folder, stale) => stale);
}

/** Brings the generated files up to date, one by one, so that whoever reads them meanwhile finds them. Returns their names. */
export function updateGeneratedFiles(): Promise<string[]> {
  return withFreshCode(async (folder, stale) => {
    const wanted = await readTree(folder);
    for (const name of stale) {
      const target = join(ROOT, GENERATED_DIR, name);
      if (wanted.has(name)) {
        await mkdir(dirname(target), { recursive: true });
        await copyFile(join(folder, name), target);
      } else await rm(target);
    }
    return stale;
  });
}

/** Makes the code anew in a temporary folder, and tells which files of the checkout differ from it. */
async function withFreshCode<T>(use: (folder: string, stale: string[]) => Promise<T>): Promise<T> {
  const outputRoot = await mkdtemp(join(tmpdir(), 'nestbox-generated-'));
  try {
    await promisify(execFile)(installedBin('buf'), ['generate', '--output', outputRoot], { cwd: ROOT });
    const folder = join(outputRoot, GENERATED_DIR);
    const wanted = await readTree(folder);
    const present = await readTree(join(ROOT, GENERATED_DIR));
    const names = [...new Set([...wanted.keys(), ...present.keys()])].sort((a, b) => a.localeCompare(b));
    return await use(
      folder,
      names.filter((name) => wanted.get(name) !== present.get(name)),
    );
  } finally {
    await rm(outputRoot, { recursive: true, force: true });
  }
}

async function readTree(root: string): Promise<Map<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(files.map(async (file) => [file.slice(root.length + 1), await readFile(file, 'utf8')] as const)),
  );
}
