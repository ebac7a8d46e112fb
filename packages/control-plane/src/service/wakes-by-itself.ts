import type { SandboxRecord } from '../store/sandbox-record.ts';

/**
 * Whether a request to this sandbox, which is paused or about to be, may resume it. Without its memory it would boot,
 * and what the request is meant for would not be there.
 */
export function wakesByItself({ autoResume, pausedMemory }: SandboxRecord): boolean {
  return autoResume && pausedMemory !== false;
}
