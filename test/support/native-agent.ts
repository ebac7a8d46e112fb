import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../packages/guest-agent/src/main.ts', import.meta.url));

export interface NativeAgentOptions {
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** Default: a free one. */
  readonly port?: number;
}

/** The guest agent as an ordinary process of this machine, which it leaves unchanged. */
export interface NativeAgent extends AsyncDisposable {
  /** `http://host:port`. */
  readonly baseUrl: string;
  readonly url: string;
  readonly pid: number;
  /** Folder of its own for the files that a guest has in /run/e2b. */
  readonly runtimeDir: string;
  stop(): Promise<void>;
}

/** Starts the guest agent and answers when it listens. Throws when it ends before that, with what it said. */
export async function startNativeAgent(options: NativeAgentOptions = {}): Promise<NativeAgent> {
  await using cleanup = new AsyncDisposableStack();
  const runtimeDir = await mkdtemp(join(tmpdir(), 'nestbox-agent-'));
  cleanup.defer(() => rm(runtimeDir, { recursive: true, force: true }));
  const listen = `${options.host ?? '127.0.0.1'}:${options.port ?? 0}`;
  const child = spawn(process.execPath, [MAIN, '--listen', listen, '--runtime-dir', runtimeDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  cleanup.defer(() => end(child));
  const baseUrl = `http://${await readyAddress(child)}`;
  const owned = cleanup.move();
  const stop = () => owned.disposeAsync();
  return { baseUrl, url: baseUrl, pid: child.pid ?? 0, runtimeDir, stop, [Symbol.asyncDispose]: stop };
}

async function readyAddress(child: ChildProcess): Promise<string> {
  const { stdout } = child;
  if (stdout === null) throw new Error('the guest agent has no output');
  for await (const line of createInterface({ input: stdout })) {
    const address = /^nestbox: agent ready on (.+)$/.exec(line)?.[1];
    if (address === undefined) continue;
    stdout.resume();
    return address;
  }
  throw new Error(`the guest agent ended before it was ready: ${child.exitCode ?? child.signalCode}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}
