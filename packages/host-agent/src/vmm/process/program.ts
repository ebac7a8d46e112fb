import { NestboxError } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import { type JailMount, sameMount } from '../jail/jail.ts';
import { programPath } from '../program-path.ts';

/** A VMM's program; a stand-in may need words before its own and more files. */
export interface VmmProgram {
  /** Absolute path first. */
  readonly command: readonly [string, ...string[]];
  readonly mounts: readonly JailMount[];
}

export interface ProgramVersion {
  /** E.g. `1.16.0`. */
  readonly text: string;
}

/** What tells one VMM's program from others. */
export interface ProgramIdentity<Version extends ProgramVersion = ProgramVersion> {
  /** E.g. `Firecracker`. */
  readonly label: string;
  /** Its name in PATH. */
  readonly binary: string;
  /** The variable by which users name another one. */
  readonly variable: string;
  /** Reads what `--version` prints. Throws not_supported for another program or a version that is not known to work. */
  readonly parseVersion: (output: string) => Version;
}

/** A name in PATH or a path becomes a program. Throws not_set_up. */
export async function findProgram(
  { label, binary, variable }: ProgramIdentity,
  program: string | VmmProgram | undefined,
): Promise<VmmProgram> {
  if (typeof program === 'object') return program;
  const name = program ?? binary;
  const path = await programPath(name).catch((cause: unknown) => {
    const message = `The program ${name} is missing. Install ${label}, or name its program by ${variable}.`;
    throw new NestboxError('not_set_up', message, { cause });
  });
  return { command: [path], mounts: [sameMount(path)] };
}

const VERSION_DEADLINE_MS = 5000;

/** Asks a program. Throws not_set_up when it does not run, and what the parser throws. */
export async function askVersion<T>(
  [program, ...args]: readonly [string, ...string[]],
  parse: (output: string) => T,
): Promise<T> {
  const signal = AbortSignal.timeout(VERSION_DEADLINE_MS);
  const { stdout } = await runCommand(program, [...args, '--version'], { signal }).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NestboxError('not_set_up', `${program} does not tell its version: ${why}`, { cause });
  });
  return parse(stdout);
}
