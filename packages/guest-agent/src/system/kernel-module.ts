import { closeSync, openSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { checked, libc, SystemCallError } from './libc.ts';

/** Where the agent disk has the modules of the guest's kernel. */
const MODULES_DIR = '/agent/modules';

/** Numbers of finit_module (asm/unistd.h of the kernel); the C library has no function for it. */
const FINIT_MODULE: Partial<Record<NodeJS.Architecture, number>> = { x64: 313, arm64: 273 };

/**
 * Loads a module of the agent disk, `path` relative to `lib/modules/<release>`; what it needs must be loaded before.
 * Does not depend on the template, which may hold no modprobe. One that is there already is fine. Throws SystemCallError,
 * or Node's error when there is no such file.
 */
export function loadKernelModule(path: string): void {
  const fd = openSync(join(MODULES_DIR, release(), path), 'r');
  try {
    const call: (number: number, fd: number, parameters: string, flags: number) => number = libc().func(
      'syscall',
      'long',
      ['long', 'long', 'const char *', 'long'],
    );
    checked('finit_module', call(FINIT_MODULE[process.arch] ?? -1, fd, '', 0));
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === 'EEXIST')) throw error;
  } finally {
    closeSync(fd);
  }
}
