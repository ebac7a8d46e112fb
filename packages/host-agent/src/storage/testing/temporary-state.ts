import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { type HostLayout, hostLayout } from '../layout.ts';

/** State and run folders for one test, removed after it. */
export async function temporaryState(t: TestContext): Promise<HostLayout> {
  const folder = await temporaryFolder(t);
  return hostLayout({ stateDir: join(folder, 'state'), runDir: join(folder, 'run'), instance: 'ffffff' });
}

export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-storage-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A file system of 64 KiB, for tests of a full disk. Needs root. */
export async function tinyFileSystem(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-tiny-'));
  t.after(async () => {
    await runCommand('umount', [folder]);
    await rm(folder, { recursive: true, force: true });
  });
  await runCommand('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'nestbox-test', folder]);
  return folder;
}

export const NEEDS_ROOT = process.getuid?.() === 0 ? false : 'needs root to mount a file system';
