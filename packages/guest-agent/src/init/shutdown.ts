import { setTimeout as delay } from 'node:timers/promises';
import { powerOff, syncDisks } from '../system/power.ts';

const GRACE_MS = 2_000;

/** Ends the machine in order: everyone is asked to stop, then made to, then the disks are written. */
async function shutDown(signal: NodeJS.Signals): Promise<void> {
  console.log(`nestbox: ${signal}: powering off`);
  signalEveryone('SIGTERM');
  await delay(GRACE_MS);
  signalEveryone('SIGKILL');
  await syncDisks();
  powerOff();
}

function signalEveryone(signal: NodeJS.Signals): void {
  try {
    // From PID 1, -1 is every process but itself.
    process.kill(-1, signal);
  } catch (error) {
    // ESRCH: there is nobody else.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** Lets SIGTERM, SIGINT and SIGPWR end the machine; the kernel ignores signals to PID 1 that have no handler. */
export function powerOffOnSignals(): void {
  let ending = false;
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGPWR'] as const) {
    process.on(signal, () => {
      if (ending) return;
      ending = true;
      shutDown(signal).catch((error: unknown) => {
        console.error('nestbox: the shutdown failed:', error);
        powerOff();
      });
    });
  }
}
