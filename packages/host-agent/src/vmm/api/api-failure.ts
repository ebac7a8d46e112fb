import { NestboxError } from '@nestbox/contract';
import { vmmUnreachable } from '../errors.ts';
import { type ConsoleStart, vmDied } from '../process/vm-process.ts';
import { VmmFaultError, VmmUnavailableError } from './vmm-api.ts';

/** The VM that a call was for, as far as its end matters. */
export interface CalledVm {
  /** Between the closing of its socket and its end lie a few milliseconds: whether it is gone after that. */
  isGoneSoon(): Promise<boolean>;
  waitUntilGone(signal: AbortSignal): Promise<string>;
}

const EXPLAIN_DEADLINE_MS = 1000;

/**
 * What a failed call to a VMM's API means: a refusal with the VMM's own words (`internal`, host_disk_full), vm_died, or
 * sandbox_unreachable. An error that is none of a call stays as it is.
 */
export async function explainApiFailure(
  vmm: string,
  vm: CalledVm,
  error: unknown,
  console?: ConsoleStart,
): Promise<unknown> {
  if (error instanceof VmmFaultError)
    return new NestboxError(
      /No space left on device/.test(error.fault) ? 'host_disk_full' : 'internal',
      `${vmm}: ${error.message}`,
      { cause: error },
    );
  if (!(error instanceof VmmUnavailableError)) return error;
  if (!(await vm.isGoneSoon())) return vmmUnreachable(error);
  return vmDied(await vm.waitUntilGone(AbortSignal.timeout(EXPLAIN_DEADLINE_MS)), console, error);
}
