import { parseFirecrackerVersion } from './version.ts';

/** Firecracker, as it is looked for. */
export const FIRECRACKER = {
  label: 'Firecracker',
  binary: 'firecracker',
  variable: 'NESTBOX_FIRECRACKER_BIN',
  parseVersion: parseFirecrackerVersion,
} as const;
