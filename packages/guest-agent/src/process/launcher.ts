import { accessSync, closeSync, constants, openSync, statSync } from 'node:fs';
import { Socket } from 'node:net';
import { ReadStream } from 'node:tty';
import { Code, ConnectError } from '@connectrpc/connect';
import type { ProcessGroups } from '../cgroups/process-groups.ts';
import { Identity } from '../system/credentials.ts';
import { SystemCallError } from '../system/libc.ts';
import { Pipes } from '../system/pipe.ts';
import { Spawner, type SpawnRequest } from '../system/posix-spawn.ts';
import { ProcessLimits } from '../system/process-limits.ts';
import { PseudoTerminals, type TerminalSize } from '../system/pseudo-terminal.ts';
import type { SystemUser } from '../users.ts';
import { findCommand } from './command-path.ts';
import { GuestProcess, type ProcessDescription } from './guest-process.ts';
import { PipeInput, TerminalInput } from './process-input.ts';
import { ProcessOutput } from './process-output.ts';

export interface LaunchRequest {
  readonly description: ProcessDescription;
  readonly user: SystemUser;
  /** Absolute. */
  readonly cwd: string;
  readonly environment: ReadonlyMap<string, string>;
  /** Set: the process gets a terminal of this size, and `stdin` counts for nothing. */
  readonly terminalSize: TerminalSize | undefined;
  readonly stdin: boolean;
}

/** A program that cannot be run: what a shell would print and exit with. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly exitCode: 126 | 127;

  constructor(command: string, exitCode: 126 | 127, reason: string) {
    super(`${command}: ${reason}`);
    this.exitCode = exitCode;
  }
}

/** Commands go before the agent when memory runs out (envd's wrapper writes the same). */
const OOM_SCORE_ADJUSTMENT = 100;

/** The process has ended (ESRCH, ENOENT), or we run in a container without CAP_SYS_RESOURCE (EPERM). */
const EXPECTED_SETTLE_ERRORS: ReadonlySet<string> = new Set(['ESRCH', 'ENOENT', 'EPERM']);

/** Makes processes out of requests. Everything up to the running program happens in one synchronous call. */
export class Launcher {
  readonly #identity = new Identity();
  readonly #spawner = new Spawner();
  readonly #pipes = new Pipes();
  readonly #terminals = new PseudoTerminals();
  readonly #limits = new ProcessLimits();
  readonly #groups: ProcessGroups | undefined;

  constructor(groups: ProcessGroups | undefined) {
    this.#groups = groups;
  }

  /**
   * Throws CommandFailure when there is no such program for the user, and ConnectError `invalid_argument` when the
   * working directory is missing or the kernel refuses a process or terminal.
   */
  launch(request: LaunchRequest): GuestProcess {
    const { cwd } = request;
    if (!statSync(cwd, { throwIfNoEntry: false })?.isDirectory()) {
      throw new ConnectError(`cwd '${cwd}' does not exist`, Code.InvalidArgument);
    }
    try {
      const process = this.#identity.runAs(request.user, () =>
        request.terminalSize === undefined
          ? this.#withPipes(request)
          : this.#withTerminal(request, request.terminalSize),
      );
      this.#settle(process);
      return process;
    } catch (error) {
      if (error instanceof CommandFailure || error instanceof ConnectError) throw error;
      const message = error instanceof Error ? error.message : String(error);
      throw new ConnectError(`error starting process: ${message}`, Code.InvalidArgument, undefined, undefined, error);
    }
  }

  #withPipes(request: LaunchRequest): GuestProcess {
    const theirs: number[] = [];
    const ours: number[] = [];
    try {
      const stdin = request.stdin ? this.#pipes.open() : undefined;
      if (stdin !== undefined) ours.push(stdin.writeFd);
      const stdinFd = stdin?.readFd ?? openSync('/dev/null', 'r');
      theirs.push(stdinFd);
      const stdout = this.#pipes.open();
      ours.push(stdout.readFd);
      theirs.push(stdout.writeFd);
      const stderr = this.#pipes.open();
      ours.push(stderr.readFd);
      theirs.push(stderr.writeFd);

      const newestFd = Math.max(...theirs, ...ours);
      const pid = this.#spawn(request, [stdinFd, stdout.writeFd, stderr.writeFd], newestFd);
      ours.length = 0;
      const source = (stream: 'stdout' | 'stderr', fd: number) => ({
        stream,
        socket: new Socket({ fd, readable: true, writable: false }),
        unreadBytes: () => this.#pipes.unreadBytes(fd),
      });
      return new GuestProcess({
        pid,
        description: request.description,
        output: new ProcessOutput([source('stdout', stdout.readFd), source('stderr', stderr.readFd)]),
        input: stdin && new PipeInput(stdin.writeFd),
        terminal: undefined,
      });
    } finally {
      for (const fd of [...theirs, ...ours]) closeSync(fd);
    }
  }

  #withTerminal(request: LaunchRequest, size: TerminalSize): GuestProcess {
    const { masterFd, path } = this.#terminals.open(size);
    const ours = [masterFd];
    let pid: number;
    let slaveFd: number;
    try {
      slaveFd = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
      ours.push(slaveFd);
      pid = this.#spawn(request, { terminal: path }, Math.max(...ours));
      ours.length = 0;
    } finally {
      for (const fd of ours) closeSync(fd);
    }
    const source = {
      stream: 'pty',
      socket: new ReadStream(masterFd),
      // The kernel passes a terminal's output on in the background, so this can be less than what was written.
      unreadBytes: () => this.#pipes.unreadBytes(masterFd),
    } as const;
    return new GuestProcess({
      pid,
      description: request.description,
      output: new ProcessOutput([source]),
      input: new TerminalInput(masterFd),
      terminal: { masterFd, slaveFd, terminals: this.#terminals },
    });
  }

  #spawn({ description, environment, cwd }: LaunchRequest, stdio: SpawnRequest['stdio'], newestFd: number): number {
    const { cmd, args } = description;
    // Else the same errno could mean the working directory or the program.
    accessSync(cwd, constants.X_OK);
    const command = findCommand(cmd, environment.get('PATH') ?? '', cwd);
    if (!command.found) throw new CommandFailure(cmd, command.exitCode, command.reason);
    const env = [...environment].map(([name, value]) => `${name}=${value}`);
    const spawn = (path: string, argv: readonly string[]) =>
      this.#limits.withUsualOpenFiles(newestFd, () => this.#spawner.spawn({ path, argv, env, cwd, stdio }));
    try {
      return spawn(command.path, [cmd, ...args]);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      switch (error.code) {
        case 'ENOEXEC':
          return spawnScript(cmd, () => spawn('/bin/sh', ['/bin/sh', command.path, ...args]));
        case 'ENOENT': // the interpreter of a script or the loader of a program
          throw new CommandFailure(cmd, 127, 'not found');
        case 'EACCES':
        case 'ETXTBSY':
        case 'ELOOP':
          throw new CommandFailure(cmd, 126, error.code === 'EACCES' ? 'Permission denied' : error.message);
        default:
          throw error;
      }
    }
  }

  /** What a running process gets from outside. It may have ended already, which is no error. */
  #settle(process: GuestProcess): void {
    const { pid, hasTerminal, description } = process;
    for (const step of [
      () => description.tag !== '_system' && this.#groups?.place(pid, hasTerminal ? 'ptys' : 'user'),
      () => this.#limits.setOomScoreAdjustment(pid, OOM_SCORE_ADJUSTMENT),
      () => this.#limits.restoreOpenFiles(pid),
    ]) {
      try {
        step();
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : '';
        if (!EXPECTED_SETTLE_ERRORS.has(code))
          console.error(`nestbox: process ${pid} could not be set up in full:`, error);
      }
    }
  }
}

/** As execvp(3): a file without a known format is a script of the shell. */
function spawnScript(cmd: string, spawn: () => number): number {
  try {
    return spawn();
  } catch (error) {
    if (error instanceof SystemCallError) throw new CommandFailure(cmd, 126, 'Exec format error');
    throw error;
  }
}
