import { NestboxError } from '@nestbox/contract';
import { GuestError } from '../guest/guest-error.ts';
import { mapDiskFull } from '../storage/disk-space.ts';
import { lastLines, readFileTail } from '../vmm/file-tail.ts';

const CONSOLE_TAIL_BYTES = 8 * 1024;
const CONSOLE_TAIL_LINES = 8;

/** What the rooms throw, as the manager's callers see it. */
export function toSandboxError(error: unknown, sandboxId: string): NestboxError {
  const mapped = mapDiskFull(error);
  if (mapped instanceof NestboxError) return mapped;
  if (mapped instanceof GuestError)
    return new NestboxError(
      mapped.kind === 'deadline' ? 'deadline_exceeded' : 'sandbox_unreachable',
      `Sandbox ${sandboxId} did not answer the host: ${mapped.message}`,
      { cause: mapped },
    );
  return NestboxError.from(mapped);
}

/** The same error with what its reader can do. */
export function withAdvice(error: NestboxError, advice: string): NestboxError {
  return new NestboxError(error.code, `${error.message} ${advice}`, { cause: error });
}

/** The same error with the end of the guest's console, where a kernel or an init says why it does not go on. */
export async function withConsoleTail(error: NestboxError, consolePath: string): Promise<NestboxError> {
  const tail = await consoleTail(consolePath);
  if (tail === '' || error.message.includes(tail)) return error;
  return new NestboxError(error.code, `${error.message}\nThe guest's console ends with:\n${tail}`, { cause: error });
}

/** Empty when there is none or it cannot be read. */
export async function consoleTail(consolePath: string): Promise<string> {
  try {
    return lastLines(await readFileTail(consolePath, CONSOLE_TAIL_BYTES), CONSOLE_TAIL_LINES);
  } catch {
    // What it would have explained is being reported already.
    return '';
  }
}
