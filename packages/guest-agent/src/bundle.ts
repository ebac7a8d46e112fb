import { cp, mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { builtinModules } from './bundle-builtins.ts';

/** A package with native code, to be copied as it is to `/agent/node_modules/<name>`. */
export interface NativePackage {
  readonly name: string;
  /** Absolute path of the package's folder on this machine. */
  readonly dir: string;
}

export interface GuestAgentBundle {
  /** Absolute path of `agent.mjs`. */
  readonly bundlePath: string;
  readonly nativePackages: readonly NativePackage[];
}

/** Packages that load machine code beside their own files, so they cannot become part of one script. */
const NATIVE_PACKAGES = ['koffi', `@koromix/koffi-linux-${process.arch}`] as const;

/**
 * Makes the guest agent's one-file program in `outDir` (created when missing) and names what must lie in
 * `node_modules` beside it. Throws what esbuild throws when the sources do not build.
 */
export async function buildGuestAgentBundle(outDir: string): Promise<GuestAgentBundle> {
  await mkdir(outDir, { recursive: true });
  const bundlePath = join(outDir, 'agent.mjs');
  await build({
    entryPoints: [fileURLToPath(new URL('./main.ts', import.meta.url))],
    outfile: bundlePath,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    minify: true,
    keepNames: true,
    legalComments: 'none',
    external: [...NATIVE_PACKAGES],
    // CommonJS dependencies inside the bundle still call require() for Node's own modules.
    banner: { js: "const require=process.getBuiltinModule('node:module').createRequire(import.meta.url);" },
    plugins: [builtinModules],
    logLevel: 'silent',
  });
  const require = createRequire(import.meta.url);
  // `koffi` does not export its package.json; its main file lies at the top of the package.
  const koffiDir = dirname(require.resolve('koffi'));
  const nativePackages = NATIVE_PACKAGES.map((name) => ({ name, dir: join(koffiDir, '..', name) }));
  return { bundlePath, nativePackages };
}

/** Copies the native packages to `<outDir>/node_modules`, so that the bundle runs from `outDir`. */
export async function copyNativePackages(bundle: GuestAgentBundle, outDir: string): Promise<void> {
  for (const { name, dir } of bundle.nativePackages) {
    await cp(dir, join(outDir, 'node_modules', name), { recursive: true, dereference: true });
  }
}
