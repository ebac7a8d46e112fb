import type { ProcessExit } from './launch.ts';

/** All that can be known of how a VMM ended. */
export interface ExitEvidence {
  /** Only for VMMs that we are the parent of. */
  readonly exit: ProcessExit | undefined;
  /** Why the VMM stopped its guest: `reason` of QEMU's SHUTDOWN event (qapi/run-state.json, ShutdownCause). */
  readonly shutdownCause: string | undefined;
  readonly outOfMemory: boolean;
  /** The end of what the VMM wrote. */
  readonly lastWords: string;
}

/** One sentence for users, and the VMM's own words where they help. */
export function explainExit(evidence: ExitEvidence): string {
  const { exit, shutdownCause, outOfMemory, lastWords } = evidence;
  if (outOfMemory) return 'The VM was ended by the kernel: it needed more memory on the host than its limit allows.';
  switch (shutdownCause) {
    case 'guest-shutdown':
      return 'The guest shut itself down.';
    case 'guest-reset':
    case 'guest-panic':
      return 'The guest restarted or its kernel panicked; the console log has its last lines.';
    case 'host-signal':
    case 'host-qmp-quit':
      return 'The VM was ended from the host.';
    default:
  }
  const words = lastWords === '' ? '' : ` Its last words: ${lastWords}`;
  if (exit?.signal !== undefined) return `The VM manager was ended by ${exit.signal}.${words}`;
  if (exit?.exitCode !== undefined && exit.exitCode !== 0)
    return `The VM manager ended with exit code ${exit.exitCode}.${words}`;
  if (exit?.exitCode === 0) return `The VM ended by itself: its guest shut down, restarted or panicked.${words}`;
  return `The VM manager is no longer running.${words}`;
}
