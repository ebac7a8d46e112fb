import { setHostName } from '../system/host-name.ts';
import { setHost } from './hosts-file.ts';

/** Names the machine, in the kernel and so that the name resolves. Throws when the kernel or /etc/hosts refuse it. */
export function nameMachine(name: string): void {
  setHostName(name);
  setHost('host name', '127.0.1.1', name);
}
