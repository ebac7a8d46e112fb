export * from './atomic-file.ts';
export * from './keyed-mutex.ts';
export * from './logger.ts';
export * from './paths.ts';
export * from './process-identity.ts';
export * from './rpc-error.ts';
export * from './run-command.ts';
export * from './stream-tuning.ts';
