import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { resolvePaths } from '@nestbox/kit';
import { packCpio } from '../image/cpio.ts';
import { createBlankImage } from '../memory/memory-image.ts';
import { currentImages } from '../storage/images-file.ts';
import { hostLayout } from '../storage/layout.ts';
import type { VmSpec } from '../vmm/driver.ts';

const MEMORY_MIB = 192;

/** Why no VM can be booted here; undefined when one can. */
export async function whyNoVm(): Promise<string | undefined> {
  try {
    await readImages();
    return undefined;
  } catch (error) {
    return `no kernel to boot (run \`nestbox setup\`): ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function readImages() {
  return currentImages.parse(JSON.parse(await readFile(hostLayout(resolvePaths()).currentImages, 'utf8')));
}

export type GuestMode = 'idle' | 'silent' | 'panic' | 'reboot' | 'poweroff' | 'flood' | 'write' | 'count';

/**
 * Folders and specs for tests of the driver: the installed kernel with a first program of ours, which replaces the one of the
 * installed initial RAM disk (of two files with one name in joined archives the later one wins).
 */
export async function createDriverBench() {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-vm-'));
  const runRoot = join(folder, 'run');
  await mkdir(runRoot);
  const { kernelPath, initrdPath: installedInitrd } = await readImages();
  const init = await readFile(new URL('./driver-guest.sh', import.meta.url));
  const overlay = packCpio([{ kind: 'file', path: 'init', mode: 0o755, content: init }]);
  const initrdPath = join(folder, 'initrd');
  await writeFile(initrdPath, Buffer.concat([await readFile(installedInitrd), overlay]));
  // Six hex characters of its own, so that cgroups of other tests and installations are left alone.
  const instance = Math.floor(Math.random() * 0x1_00_00_00)
    .toString(16)
    .padStart(6, '0');
  let count = 0;

  return {
    folder,
    runRoot,
    instance,
    cacheDir: join(folder, 'cache'),
    async createSpec(mode: GuestMode = 'idle', overrides: Partial<VmSpec> = {}): Promise<VmSpec> {
      count += 1;
      const vmId = `i${mode}${count}`;
      const runDir = join(runRoot, vmId);
      const diskPath = join(folder, `${vmId}.raw`);
      await mkdir(runDir);
      const memoryPath = join(folder, `${vmId}.memory`);
      await createBlankImage(memoryPath, MEMORY_MIB * 2 ** 20);
      await writeFile(diskPath, '');
      await truncate(diskPath, 16 * 1024 * 1024);
      return {
        vmId,
        vcpuCount: 1,
        memoryMib: MEMORY_MIB,
        userId: 1_879_048_192,
        memoryPath,
        kernelPath,
        initrdPath,
        kernelArgs: [`nestbox-test=${mode}`],
        disks: [{ path: diskPath, format: 'raw', readOnly: false }],
        network: { netnsName: undefined, tapName: 'tap0', guestMac: '02:fc:00:00:00:05' },
        runDir,
        consolePath: join(folder, `${vmId}.log`),
        ...overrides,
      };
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

export type DriverBench = Awaited<ReturnType<typeof createDriverBench>>;
