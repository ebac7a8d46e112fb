import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type NestboxPaths, readProcessIdentity } from '@nestbox/kit';
import { z } from 'zod';
import { spawnNestbox } from './nestbox-command.ts';

const readyLine = z.object({
  apiUrl: z.url(),
  sandboxUrl: z.url(),
  apiKey: z.string(),
  pid: z.int(),
  tls: z.object({ domain: z.string(), authority: z.object({ caPath: z.string(), bundlePath: z.string() }) }).optional(),
});

/** A `nestbox up` of a test's own. */
export interface TestServer extends AsyncDisposable {
  readonly apiUrl: string;
  readonly sandboxUrl: string;
  readonly apiKey: string;
  readonly pid: number;
  /** What the e2b clients take. */
  readonly connection: { readonly apiUrl: string; readonly sandboxUrl: string; readonly apiKey: string };
  /** With `--tls auto`: the domain with its port, the authority's certificate, and that with the well-known ones. */
  readonly tls: { readonly domain: string; readonly caPath: string; readonly bundlePath: string } | undefined;
  /** What it has written to standard error so far. */
  readonly log: () => string;
  /** Sends the signal and waits for the end. Returns the exit code, or the name of the signal that ended it. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null>;
}

/** Starts `nestbox up` on free ports and waits until it is ready. Disposing ends it with its sandboxes. */
export async function startServer(
  paths: NestboxPaths,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<TestServer> {
  const child = spawnNestbox(
    ['up', '--json', '--port', '0', '--sandbox-port', '0', ...args],
    { ...env, NESTBOX_DIR: paths.stateDir },
    // In a process group of its own: Ctrl-C is for the caller, who then ends the server in order.
    { stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  );
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  let isAwaited = false;
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('exit', (exitCode, signal) => {
      // Whoever asked it something hears of a closed connection alone.
      if (!isAwaited) console.error(`nestbox up ended by itself (${exitCode ?? signal}):\n${log}`);
      resolve(exitCode ?? signal);
    });
  });
  const ready = readyLine.safeParse(await firstLine(child));
  if (!ready.success) {
    isAwaited = true;
    child.kill('SIGTERM');
    throw new Error(`nestbox up did not become ready (it ended with ${await ended}): ${log}`);
  }
  const { apiUrl, sandboxUrl, apiKey, pid, tls } = ready.data;
  const end = async (signal: NodeJS.Signals) => {
    // One that is gone already says so: its caller, which failed for that, ends it before its exit is noticed.
    isAwaited = readProcessIdentity(pid) !== undefined;
    if (isAwaited) process.kill(pid, signal);
    return await ended;
  };
  return {
    apiUrl,
    sandboxUrl,
    apiKey,
    pid,
    connection: { apiUrl, sandboxUrl, apiKey },
    tls: tls && { domain: tls.domain, ...tls.authority },
    log: () => log,
    end,
    async [Symbol.asyncDispose]() {
      await end('SIGTERM');
    },
  };
}

async function firstLine(child: ChildProcess): Promise<unknown> {
  if (child.stdout === null) return undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    try {
      return JSON.parse(line);
    } catch {
      return line;
    }
  }
  return undefined;
}
