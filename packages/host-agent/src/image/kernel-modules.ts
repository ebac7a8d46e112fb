import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { NestboxError } from '@nestbox/contract';

/** A module file, relative to lib/modules/<version>, e.g. `kernel/drivers/virtio/virtio.ko`. */
export type ModulePath = string;

/** For each module the ones it needs, as depmod wrote them (modules.dep(5)). */
export type ModuleDependencies = ReadonlyMap<ModulePath, readonly ModulePath[]>;

export function parseModulesDep(text: string): ModuleDependencies {
  const dependencies = new Map<ModulePath, ModulePath[]>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon === -1) continue;
    dependencies.set(
      line.slice(0, colon),
      line
        .slice(colon + 1)
        .split(' ')
        .filter((path) => path !== ''),
    );
  }
  return dependencies;
}

/** Names of modules that are compiled into the kernel (file names in modules.builtin). */
export function parseModulesBuiltin(text: string): ReadonlySet<string> {
  return new Set(
    text
      .split('\n')
      .filter((line) => line !== '')
      .map(moduleName),
  );
}

/** `kernel/drivers/char/hw_random/virtio-rng.ko.xz` → `virtio_rng`: the kernel holds `-` and `_` in names for the same. */
export function moduleName(path: ModulePath): string {
  return basename(path)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');
}

/**
 * The named modules and all they need, each after what it needs itself, so that insmod can take them one by one.
 * What is compiled in is left out. Throws not_set_up for a name that the kernel does not have.
 */
export function loadOrder(
  names: readonly string[],
  dependencies: ModuleDependencies,
  builtin: ReadonlySet<string>,
): ModulePath[] {
  const byName = new Map([...dependencies.keys()].map((path) => [moduleName(path), path]));
  const ordered = new Set<ModulePath>();
  const visit = (path: ModulePath) => {
    if (ordered.has(path)) return;
    for (const needed of dependencies.get(path) ?? []) visit(needed);
    ordered.add(path);
  };
  for (const name of names) {
    const path = byName.get(name);
    if (path !== undefined) visit(path);
    else if (!builtin.has(name)) throw new NestboxError('not_set_up', `The guest kernel has no module ${name}.`);
  }
  return [...ordered];
}

/** Reads what depmod and the kernel's package say of a module tree (`…/lib/modules/<version>`). */
export async function readModuleTree(
  tree: string,
): Promise<{ dependencies: ModuleDependencies; builtin: ReadonlySet<string> }> {
  const [dep, builtin] = await Promise.all([
    readFile(join(tree, 'modules.dep'), 'utf8'),
    readFile(join(tree, 'modules.builtin'), 'utf8'),
  ]);
  return { dependencies: parseModulesDep(dep), builtin: parseModulesBuiltin(builtin) };
}
