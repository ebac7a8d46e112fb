import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import { Process, type ProcessInput, type PTY, Signal, type StartRequest } from '@nestbox/contract/process';
import type { AgentContext } from '../context.ts';
import { resolvePath } from '../paths.ts';
import { EventQueue } from '../rpc/event-queue.ts';
import { keepAliveIntervalMs } from '../rpc/keep-alive.ts';
import { requestUser } from '../rpc/request-user.ts';
import type { SystemUser } from '../users.ts';
import { processEnvironment } from './environment.ts';
import { GuestProcess } from './guest-process.ts';
import type { LaunchRequest } from './launcher.ts';
import { endMessage, keepAliveMessage, type ProcessMessage, startMessage } from './process-event.ts';
import type { Processes } from './processes.ts';

/**
 * The stream of a timed call ends first, with `deadline_exceeded`; the process is killed a moment later, so that its
 * caller does not see the kill instead.
 */
const KILL_AFTER_DEADLINE_MS = 20;
const DEFAULT_TERMINAL = { cols: 80, rows: 24 };
const MAX_TERMINAL_CELLS = 0xffff;

/** `process.Process` (envd-interface.md, section 3). */
export function processService(context: AgentContext, processes: Processes): (router: ConnectRouter) => void {
  const { table } = processes;

  const read = (queue: EventQueue<ProcessMessage>, handler: HandlerContext) =>
    queue.read(handler.signal, {
      intervalMs: keepAliveIntervalMs(handler.requestHeader),
      message: keepAliveMessage,
    });

  return (router) => {
    router.service(Process, {
      list: () => ({
        processes: table.running().map(({ pid, description: { tag, cwd, cmd, args, envs } }) => ({
          pid,
          config: { cmd, args: [...args], envs: { ...envs }, ...(cwd !== undefined && { cwd }) },
          ...(tag !== undefined && { tag }),
        })),
      }),

      start: (request, handler) => {
        const queue = new EventQueue<ProcessMessage>();
        const timeoutMs = handler.timeoutMs();
        handler.signal.throwIfAborted();
        processes.start(
          launchRequest(request, context, handler),
          timeoutMs === undefined ? undefined : timeoutMs + KILL_AFTER_DEADLINE_MS,
          queue,
          handler.signal,
        );
        return read(queue, handler);
      },

      connect: (request, handler) => {
        const found = table.findAny(request.process);
        const queue = new EventQueue<ProcessMessage>();
        if (found instanceof GuestProcess) {
          found.attach(queue, handler.signal);
        } else {
          queue.push(startMessage(found.pid));
          queue.push(endMessage(found.end));
          queue.end();
        }
        return read(queue, handler);
      },

      update: (request) => {
        const process = table.findRunning(request.process);
        if (request.pty !== undefined) {
          try {
            process.resize(terminalSize(request.pty));
          } catch (error) {
            throw internal('error resizing tty', error);
          }
        }
        return {};
      },

      sendInput: async (request) => {
        await sendInput(table.findRunning(request.process), request.input);
        return {};
      },

      streamInput: async (requests) => {
        let process: GuestProcess | undefined;
        for await (const { event } of requests) {
          if (event.case === 'start') {
            process = table.findRunning(event.value.process);
          } else if (event.case === 'data') {
            if (process === undefined) {
              throw new ConnectError('the first message of the stream must be `start`', Code.InvalidArgument);
            }
            await sendInput(process, event.value.input);
          }
        }
        return {};
      },

      sendSignal: (request) => {
        const process = table.findRunning(request.process);
        const name = signalName(request.signal);
        try {
          process.kill(name);
        } catch (error) {
          throw internal('error sending signal', error);
        }
        return {};
      },

      closeStdin: (request) => {
        closeStdin(table.findRunning(request.process));
        return {};
      },
    });
  };
}

function launchRequest(request: StartRequest, context: AgentContext, handler: HandlerContext): LaunchRequest {
  const { cmd = '', args = [], envs = {}, cwd } = request.process ?? {};
  for (const text of [cmd, ...args]) {
    if (text.includes('\0')) throw new ConnectError('the command contains a NUL byte', Code.InvalidArgument);
  }
  const user = requestUser(context.state, handler);
  return {
    description: { cmd, args, envs, cwd, tag: request.tag },
    user,
    cwd: workingDirectory(cwd ?? '', user, context),
    environment: processEnvironment(user, context.state.globalEnv, envs),
    terminalSize: request.pty && terminalSize(request.pty),
    stdin: request.stdin ?? true,
  };
}

function workingDirectory(cwd: string, user: SystemUser, { state }: AgentContext): string {
  try {
    return resolvePath(cwd, user, state.defaultWorkdir);
  } catch (error) {
    throw new ConnectError(error instanceof Error ? error.message : String(error), Code.InvalidArgument);
  }
}

function terminalSize({ size }: PTY): { cols: number; rows: number } {
  const { cols, rows } = size ?? DEFAULT_TERMINAL;
  return { cols: Math.min(cols, MAX_TERMINAL_CELLS), rows: Math.min(rows, MAX_TERMINAL_CELLS) };
}

function signalName(signal: Signal): 'SIGKILL' | 'SIGTERM' {
  if (signal === Signal.SIGKILL) return 'SIGKILL';
  if (signal === Signal.SIGTERM) return 'SIGTERM';
  throw new ConnectError(`signal ${signal} is not supported: only SIGKILL and SIGTERM are`, Code.Unimplemented);
}

async function sendInput(process: GuestProcess, input: ProcessInput | undefined): Promise<void> {
  const kind = input?.input.case;
  if (input === undefined || kind === undefined) {
    throw new ConnectError('the request has no input', Code.Unimplemented);
  }
  const target = kind === 'pty' ? 'tty' : 'stdin';
  if ((kind === 'pty') !== process.hasTerminal) {
    const reason = process.hasTerminal ? 'the process has a tty, not a stdin' : 'the process has no tty';
    throw new ConnectError(`error writing to ${target}: ${reason}`, Code.Internal);
  }
  if (process.input === undefined) {
    throw new ConnectError(`error writing to ${target}: the process was started without stdin`, Code.Internal);
  }
  try {
    await process.input.write(input.input.value);
  } catch (error) {
    throw internal(`error writing to ${target}`, error);
  }
}

function closeStdin(process: GuestProcess): void {
  try {
    process.input?.close();
  } catch (error) {
    throw new ConnectError(error instanceof Error ? error.message : String(error), Code.Unknown);
  }
}

function internal(what: string, error: unknown): ConnectError {
  const reason = error instanceof Error ? error.message : String(error);
  return new ConnectError(`${what}: ${reason}`, Code.Internal, undefined, undefined, error);
}
