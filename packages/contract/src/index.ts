export * from './errors.ts';
export * from './guest.ts';
export * from './guest-paths.ts';
export * from './ids.ts';
export * from './sandbox-address.ts';
export * from './version.ts';
