import { type ErrorCode, NestboxError } from '@nestbox/contract';
import { CommandError, runCommand } from '@nestbox/kit';

/** Runs lines of `ip` in one process, up to the first that fails. */
export async function ipBatch(lines: readonly string[]): Promise<void> {
  await run('ip', ['-batch', '-'], script(lines));
}

/** Runs all lines of `ip` in one process, those after a failed one too; throws when any failed. */
export async function ipBatchTryAll(lines: readonly string[]): Promise<void> {
  await run('ip', ['-force', '-batch', '-'], script(lines));
}

/** Applies a ruleset in one transaction: all of it or nothing. */
export async function nft(ruleset: string): Promise<void> {
  await run('nft', ['-f', '-'], ruleset);
}

/** The table as the kernel has it, in words that are the same as long as nothing changes; undefined when it is not there. */
export async function listTable(table: string): Promise<string | undefined> {
  try {
    return (await run('nft', ['-s', 'list', 'table', 'inet', table])).stdout;
  } catch (error) {
    if (error instanceof NestboxError && error.cause instanceof CommandError && error.cause.exitCode === 1)
      return undefined;
    throw error;
  }
}

export async function nftInNamespace(netnsName: string, ruleset: string): Promise<void> {
  await run('nsenter', [...inNamespace(netnsName), 'nft', '-f', '-'], ruleset);
}

/** Runs a shell script in the network namespace; it ends at the first command that fails. */
export async function shellInNamespace(netnsName: string, text: string): Promise<string> {
  return (await run('nsenter', [...inNamespace(netnsName), 'sh', '-es'], text)).stdout;
}

/** nsenter rather than `ip netns exec`, which makes a mount namespace and mounts sysfs each time. */
function inNamespace(netnsName: string): string[] {
  return [`--net=/run/netns/${netnsName}`, '--'];
}

function script(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`;
}

async function run(file: string, args: readonly string[], input?: string) {
  try {
    return await runCommand(file, args, input === undefined ? {} : { input });
  } catch (error) {
    throw toNestboxError(file, error);
  }
}

const DEBIAN_PACKAGE: Readonly<Record<string, string>> = { ip: 'iproute2', nft: 'nftables', nsenter: 'util-linux' };

function toNestboxError(file: string, error: unknown): NestboxError {
  const [code, message] = explain(file, error);
  return new NestboxError(code, message, { cause: error });
}

function explain(file: string, error: unknown): [ErrorCode, string] {
  if (error instanceof CommandError && isMissingFile(error.cause))
    return [
      'not_set_up',
      `The command ${file} is missing. Install it (Debian: apt-get install ${DEBIAN_PACKAGE[file] ?? file}).`,
    ];
  if (error instanceof CommandError && /Operation not permitted/.test(error.stderr))
    return ['not_set_up', 'Sandbox networks need root with CAP_NET_ADMIN and CAP_SYS_ADMIN. Run Nestbox as root.'];
  return ['internal', error instanceof Error ? error.message : String(error)];
}

function isMissingFile(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
