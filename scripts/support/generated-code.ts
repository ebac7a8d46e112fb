import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '@nestbox/kit';
import { GENERATED_DIR, installedBin, ROOT } from './repository.ts';

/** Writes the protobuf code that `proto/` asks for below `outputRoot`. */
export async function generateCode(outputRoot: string): Promise<void> {
  await runCommand(installedBin('buf'), ['generate', '--output', outputRoot], { cwd: ROOT, env: process.env });
}

/** Names of the generated files that are not what `proto/` asks for: changed, missing or too many. */
export async function findStaleGeneratedFiles(): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-generated-'));
  try {
    await generateCode(folder);
    const wanted = await readTree(join(folder, GENERATED_DIR));
    const present = await readTree(join(ROOT, GENERATED_DIR));
    const names = new Set([...wanted.keys(), ...present.keys()]);
    return [...names].filter((name) => wanted.get(name) !== present.get(name)).sort((a, b) => a.localeCompare(b));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readTree(root: string): Promise<Map<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(files.map(async (file) => [file.slice(root.length + 1), await readFile(file, 'utf8')] as const)),
  );
}
