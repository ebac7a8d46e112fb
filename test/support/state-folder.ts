import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BASE_TEMPLATE_ID } from '@nestbox/host-agent/image';
import { type NestboxPaths, resolvePaths, runCommand } from '@nestbox/kit';

/**
 * Folders and files of the machine's own installation that tests share: they are large, and nothing changes them. `cache`
 * holds the answer of the VM probe, which takes seconds to find.
 */
const SHARED_FOLDERS = ['kernels', 'agent', 'cache'];
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
  await using undo = new AsyncDisposableStack();
  const { shared, paths } = await makeFolder(undo);
  const { stateDir } = paths;
  for (const name of SHARED_FOLDERS) await symlink(join(shared, name), join(stateDir, name));
  await linkTree(join(shared, 'templates'), join(stateDir, 'templates'));
  for (const name of SHARED_FILES) await copyFile(join(shared, name), join(stateDir, name));
  return withUndo(paths, undo.move());
}

/**
 * The same on a file system of its own, of so many MiB, which holds copies of the images: what fills it fills nobody else's disk.
 */
export async function makeSmallStateFolder(sizeMib: number): Promise<NestboxPaths & AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  const { shared, paths } = await makeFolder(undo);
  const { stateDir } = paths;
  const image = `${stateDir}.img`;
  undo.defer(() => rm(image, { force: true }));
  await runCommand('truncate', ['--size', `${sizeMib}M`, image]);
  await runCommand('mke2fs', ['-q', '-t', 'ext4', '-m', '0', image]);
  await runCommand('mount', ['-o', 'loop', image, stateDir]);
  undo.defer(async () => void (await runCommand('umount', [stateDir])));
  const names = [...SHARED_FOLDERS, 'templates', ...SHARED_FILES];
  await runCommand('cp', ['-a', '--sparse=always', ...names.map((name) => join(shared, name)), stateDir]);
  const images = join(stateDir, 'images.json');
  await writeFile(images, (await readFile(images, 'utf8')).replaceAll(`${shared}/`, `${stateDir}/`));
  return withUndo(paths, undo.move());
}

async function makeFolder(undo: AsyncDisposableStack): Promise<{ shared: string; paths: NestboxPaths }> {
  const shared = resolvePaths().stateDir;
  // Beside the installation: sandboxes have links to its files, which no other file system can hold.
  const stateDir = await mkdtemp(`${shared}-test-`);
  undo.defer(() => rm(stateDir, { recursive: true, force: true }));
  await mkdir(join(shared, 'cache'), { recursive: true });
  const paths = resolvePaths({ NESTBOX_DIR: stateDir });
  undo.defer(() => rm(paths.runDir, { recursive: true, force: true }));
  return { shared, paths };
}

function withUndo(paths: NestboxPaths, undo: AsyncDisposableStack): NestboxPaths & AsyncDisposable {
  return { ...paths, [Symbol.asyncDispose]: () => undo.disposeAsync() };
}

/** The same folders with the same files: hard links, but for what names things, which is copied. */
async function linkTree(from: string, to: string): Promise<void> {
  await mkdir(to);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) await linkTree(source, target);
    else if (entry.name.endsWith('.json')) await copyFile(source, target);
    else await link(source, target);
  }
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
  const { snapshot: _, ...base } = JSON.parse(
    await readFile(join(templates, BASE_TEMPLATE_ID, 'template.json'), 'utf8'),
  );
  await mkdir(join(templates, templateId));
  await link(join(templates, BASE_TEMPLATE_ID, 'rootfs.ext4'), join(templates, templateId, 'rootfs.ext4'));
  const template = { ...base, ...resources, templateId, names: [templateId] };
  await writeFile(join(templates, templateId, 'template.json'), JSON.stringify(template));
  return templateId;
}
