import { join } from 'node:path';

/** The top folder of the checkout. */
export const ROOT = join(import.meta.dirname, '..', '..');

/** A program that npm installed. */
export function installedBin(name: string): string {
  return join(ROOT, 'node_modules', '.bin', name);
}

/** Where the generated protobuf code is kept, from the top folder on. */
export const GENERATED_DIR = join('packages', 'contract', 'src', 'gen');
