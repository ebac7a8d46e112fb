import { type CommandResult, type RunCommandOptions, runCommand } from '@nestbox/kit';
import { toolEnvironment } from './tool-environment.ts';

/**
 * Runs a program that works on files of ours, in a plain environment. The kernel ends it when we end, kill -9 included
 * (setpriv of util-linux, PR_SET_PDEATHSIG): nothing goes on writing where the next set-up cleans up.
 * What starts processes and mounts of its own needs runContained instead.
 */
export function runTool(
  file: string,
  args: readonly string[],
  options: RunCommandOptions = {},
): Promise<CommandResult> {
  return runCommand('setpriv', ['--pdeathsig', 'KILL', '--', file, ...args], { env: toolEnvironment(), ...options });
}
