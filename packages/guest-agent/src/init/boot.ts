import { mkdirSync, readFileSync } from 'node:fs';
import { attempt } from '../attempt.ts';
import { disableCtrlAltDelete } from '../system/power.ts';
import { ProcessLimits } from '../system/process-limits.ts';
import { nameMachine } from './host-identity.ts';
import { mountKernelFilesystems } from './mounts.ts';
import { configureNetwork } from './network.ts';
import { powerOffOnSignals } from './shutdown.ts';

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Until /init names the sandbox. */
const DEFAULT_HOST_NAME = 'nestbox';
/** systemd's usual hard limit; processes start with a soft limit of 1024 (ProcessLimits). */
const MAX_OPEN_FILES = 524_288;
/** The kernel never ends the agent for lack of memory. */
const OOM_NEVER = -1000;

/** Everything that the first process does before it serves: from a bare kernel to a machine that programs can run on. */
export function bootGuest(): void {
  process.umask(0o022);
  process.chdir('/');
  process.env.PATH = PATH;
  delete process.env.HOME;
  delete process.env.TERM;
  // The kernel starts us without any; processes of root would inherit that.
  attempt('setting the groups of root', () => process.setgroups?.([0]));
  mountKernelFilesystems();
  attempt('making /root', () => mkdirSync('/root', { recursive: true, mode: 0o700 }));
  attempt('making /etc', () => mkdirSync('/etc', { recursive: true }));
  attempt('naming the machine', () => nameMachine(templateHostName()));
  configureNetwork();
  attempt('setting limits', () => {
    const limits = new ProcessLimits();
    limits.setMaxOpenFiles(process.pid, MAX_OPEN_FILES);
    limits.setOomScoreAdjustment(process.pid, OOM_NEVER);
  });
  attempt('disabling Ctrl-Alt-Delete', disableCtrlAltDelete);
  powerOffOnSignals();
}

/** What the template's /etc/hostname says, else ours. */
function templateHostName(): string {
  try {
    return /^[\w.-]{1,64}$/m.exec(readFileSync('/etc/hostname', 'utf8'))?.[0] ?? DEFAULT_HOST_NAME;
  } catch {
    return DEFAULT_HOST_NAME;
  }
}
