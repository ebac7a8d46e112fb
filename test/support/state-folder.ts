import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BASE_TEMPLATE_ID } from '@nestbox/host-agent/image';
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

/**
 * Adds a template with the root disk of `base` and resources of its own, for this state folder alone. Call it before the
 * server starts. Returns the template's id, which is its name as well.
 */
export async function addTemplate(
  paths: NestboxPaths,
  templateId: string,
  resources: { readonly vcpuCount: number; readonly memoryMib: number },
): Promise<string> {
  const templates = join(paths.stateDir, 'templates');
  const shared = join(resolvePaths().stateDir, 'templates');
  // Until now the whole folder is a link; from here on its templates' files are.
  await unlink(templates);
  for (const name of await readdir(shared)) {
    await mkdir(join(templates, name), { recursive: true });
    for (const file of await readdir(join(shared, name)))
      await symlink(join(shared, name, file), join(templates, name, file));
  }
  const base = JSON.parse(await readFile(join(templates, BASE_TEMPLATE_ID, 'template.json'), 'utf8'));
  await mkdir(join(templates, templateId));
  await symlink(join(shared, BASE_TEMPLATE_ID, 'rootfs.ext4'), join(templates, templateId, 'rootfs.ext4'));
  const template = { ...base, ...resources, templateId, names: [templateId] };
  await writeFile(join(templates, templateId, 'template.json'), JSON.stringify(template));
  return templateId;
}
