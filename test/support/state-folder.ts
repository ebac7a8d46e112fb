import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NestboxPaths, resolvePaths } from '@nestbox/kit';

/**
 * Folders and files of the machine's own installation that tests share: they are large, and nothing changes them. `cache`
 * holds the answer of the VM probe, which takes seconds to find.
 */
const SHARED_FOLDERS = ['kernels', 'agent', 'templates', 'cache'];
const SHARED_FILES = ['images.json', 'setup.json'];

/** Why tests cannot boot VMs here, for `skip`; false when they can. */
export function vmsCannotRun(): string | false {
  if (process.geteuid?.() !== 0) return 'booting VMs needs root';
  const { stateDir } = resolvePaths();
  if (!existsSync(join(stateDir, 'images.json'))) return `${stateDir} holds no images; run: nestbox setup`;
  return false;
}

/**
 * A state folder of a test's own, so that its sandboxes, networks and lock are nobody else's. The images are those of the
 * machine's own installation, by links.
 */
export async function makeStateFolder(): Promise<NestboxPaths & AsyncDisposable> {
  const stateDir = await mkdtemp(join(tmpdir(), 'nestbox-test-'));
  const shared = resolvePaths().stateDir;
  await mkdir(join(shared, 'cache'), { recursive: true });
  for (const name of SHARED_FOLDERS) await symlink(join(shared, name), join(stateDir, name));
  for (const name of SHARED_FILES) await copyFile(join(shared, name), join(stateDir, name));
  const paths = resolvePaths({ NESTBOX_DIR: stateDir });
  return {
    ...paths,
    async [Symbol.asyncDispose]() {
      await rm(stateDir, { recursive: true, force: true });
      await rm(paths.runDir, { recursive: true, force: true });
    },
  };
}
