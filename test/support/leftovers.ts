import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type NestboxPaths, runCommand } from '@nestbox/kit';

/** What the kernel and the disk still hold of an installation's sandboxes, in words for a failing test. Empty: nothing. */
export async function findLeftovers(paths: NestboxPaths): Promise<string[]> {
  const { instance, stateDir, runDir } = paths;
  const slots = '/run/nestbox/slots';
  return [
    ...vmProcesses(paths).map(({ pid, commandLine }) => `process ${pid}: ${commandLine}`),
    ...(await lines('ip', ['netns', 'list'])).filter((line) => line.includes(instance)).map((line) => `netns ${line}`),
    ...(await lines('ip', ['-oneline', 'link']))
      .filter((line) => line.includes(instance))
      .map((line) => `link ${line}`),
    ...(await lines('nft', ['list', 'tables'])).filter((line) => line.includes(instance)),
    ...readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(stateDir))
      .map((line) => `mount ${line}`),
    ...cgroups(instance).map((path) => `cgroup ${path}`),
    ...list(slots)
      .filter((name) => name.includes(instance) || readFileSync(join(slots, name), 'utf8').includes(instance))
      .map((name) => `slot ${name}`),
    ...(existsSync(runDir) ? [`run folder ${runDir} with ${list(runDir).join(', ') || 'nothing in it'}`] : []),
    ...list(join(stateDir, 'sandboxes')).map((name) => `sandbox folder ${name}`),
  ];
}

/** Processes that belong to the installation's VMs: their command lines name its folders. The server itself is none. */
export function vmProcesses({ stateDir, runDir }: NestboxPaths): { pid: number; commandLine: string }[] {
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), commandLine: readCommandLine(name) }))
    .filter(({ commandLine }) => commandLine.includes(`${runDir}/`) || commandLine.includes(`${stateDir}/sandboxes/`));
}

function readCommandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return ''; // It ended meanwhile.
  }
}

/** cgroups of the installation, below every hierarchy (v1) or the one (v2). */
function cgroups(instance: string): string[] {
  const root = '/sys/fs/cgroup';
  const parents = [root, ...list(root).map((name) => join(root, name))];
  return parents.flatMap((parent) =>
    list(parent)
      .filter((name) => name.includes(instance))
      .flatMap((name) => [join(parent, name), ...list(join(parent, name)).map((child) => join(parent, name, child))]),
  );
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

async function lines(file: string, args: readonly string[]): Promise<string[]> {
  const { stdout } = await runCommand(file, args);
  return stdout.split('\n').filter((line) => line !== '');
}
