import { type CommandResult, type RunCommandOptions, runCommand } from '@nestbox/kit';

/**
 * Runs a command that makes mounts and processes of its own so that nothing of it can outlive us, whatever ends us:
 * - setpriv has the kernel kill unshare when we die, kill -9 included (PR_SET_PDEATHSIG);
 * - unshare has it kill the command when unshare dies, and the command is process 1 of a PID namespace, so the kernel
 *   ends everything that it started with it;
 * - the mounts are in a mount namespace, which goes with its last process.
 * Both tools are part of util-linux. Needs root. See unshare(1), pid_namespaces(7).
 */
export function runContained(
  file: string,
  args: readonly string[],
  options: RunCommandOptions = {},
): Promise<CommandResult> {
  return runCommand('setpriv', [...CONTAINMENT, file, ...args], options);
}

const CONTAINMENT = [
  '--pdeathsig',
  'KILL',
  'unshare',
  '--mount',
  '--propagation',
  'private',
  '--pid',
  '--fork',
  '--kill-child=KILL',
  '--mount-proc',
  '--',
];
