import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';

export const COMMAND = join(import.meta.dirname, '..', '..', 'packages', 'cli', 'bin', 'nestbox.mjs');

/** Environment variables that would lead the command to another server. */
const FOREIGN = ['E2B_API_URL', 'E2B_SANDBOX_URL', 'E2B_DOMAIN', 'E2B_API_KEY', 'NESTBOX_ADMIN_TOKEN', 'NESTBOX_DIR'];

export interface CommandOutcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export function commandEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !FOREIGN.includes(name)));
  // The command is started as users do, by its first line, and that must find this Node.
  return { ...own, PATH: `${dirname(process.execPath)}:${process.env.PATH}`, ...env };
}

/** Starts `nestbox` with words and variables of the caller's. */
export function spawnNestbox(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  options: SpawnOptions = {},
): ChildProcess {
  return spawn(COMMAND, args, { ...options, env: commandEnvironment(env) });
}

/** Runs `nestbox` to its end. `input` is its whole standard input; none means /dev/null. */
export async function runNestbox(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  input?: string | Uint8Array,
): Promise<CommandOutcome> {
  const child = spawnNestbox(args, env, { stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
  child.stdin?.on('error', () => {
    // It ended without reading everything; its exit code tells.
  });
  child.stdin?.end(input);
  return await outcomeOf(child);
}

export async function outcomeOf(child: ChildProcess): Promise<CommandOutcome> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on('data', (bytes: Buffer) => stdout.push(bytes));
  child.stderr?.on('data', (bytes: Buffer) => stderr.push(bytes));
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, signal) =>
      resolve({ exitCode, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') }),
    );
  });
}
