import { NestboxError } from '@nestbox/contract';
import { CommandError } from '@nestbox/kit';
import { runTool } from './run-tool.ts';

/** Name under which a program asks for a library, and where this machine has it. */
export interface SharedLibrary {
  readonly name: string;
  readonly path: string;
}

/**
 * Parses what `ldd` prints. Lines are `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, and the loader's own
 * `/lib64/ld-linux-x86-64.so.2 (0x…)`; linux-vdso comes from the kernel and has no file.
 * Returns undefined when a library is missing.
 */
export function parseLdd(output: string): SharedLibrary[] | undefined {
  if (output.includes('not found')) return undefined;
  const libraries: SharedLibrary[] = [];
  for (const line of output.split('\n')) {
    const [, name, path] = /^\s*(?:(\S+) => )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line) ?? [];
    if (path !== undefined) libraries.push({ name: name ?? path.slice(path.lastIndexOf('/') + 1), path });
  }
  return libraries;
}

/**
 * The shared libraries of a program, its loader included. Throws not_set_up when one is missing on this machine.
 * ldd runs the program's loader, so it is for files that we trust alone.
 */
export async function sharedLibraries(program: string, signal?: AbortSignal): Promise<SharedLibrary[]> {
  const libraries = parseLdd((await ldd(program, signal)) ?? '');
  if (libraries === undefined || libraries.length === 0)
    throw new NestboxError('not_set_up', `This machine lacks a library that ${program} needs (see: ldd ${program}).`);
  return libraries;
}

/**
 * The libraries of a native add-on of Node; empty when it is built for another kind of machine or C library, as
 * packages with prebuilt add-ons for many carry them.
 */
export async function addonLibraries(addon: string, signal?: AbortSignal): Promise<SharedLibrary[]> {
  return parseLdd((await ldd(addon, signal)) ?? '') ?? [];
}

/** Undefined when the file is no dynamic program for this machine. */
async function ldd(path: string, signal?: AbortSignal): Promise<string | undefined> {
  try {
    const { stdout } = await runTool('ldd', [path], { ...(signal && { signal }) });
    return stdout;
  } catch (error) {
    if (error instanceof CommandError && error.exitCode !== undefined) return undefined;
    throw error;
  }
}
