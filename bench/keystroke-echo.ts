import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Sandbox } from 'e2b';
import { startApplication, startProxyStack } from '../test/support/proxy-stack.ts';
import type { TestServer } from '../test/support/server.ts';
import { type DownloadLoad, startDownloadLoad } from './download-load.ts';
import type { GuestServer } from './guest-server.ts';
import type { Measure } from './measure.ts';
import { quantile, timed } from './series.ts';

/** Of each side in each round; 1 % of all of them is what a p99 leaves out. */
const KEYSTROKES = 150;
const ROUNDS = 4;
const PAUSE_MS = 20;
const LOAD_MB_PER_SECOND = 100;
/** A download is at its full rate, and a terminal at rest after one, by then. */
const SETTLE_MS = 500;

/** A terminal in a sandbox while another port of it moves as much as it can, up to 100 MB/s. */
export async function measureKeystrokes(server: TestServer, sandbox: Sandbox, guest: GuestServer): Promise<Measure> {
  const terminal = await openTerminal(sandbox);
  try {
    await terminal.echoes(20);
    const alone: number[] = [];
    const loaded: number[] = [];
    const rates: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      alone.push(...(await terminal.echoes(KEYSTROKES)));
      await besideLoad(`${server.sandboxUrl}/${2 ** 40}`, guest.routing, async (load) => {
        const before = await load.bytes();
        const elapsedMs = await timed(async () => {
          loaded.push(...(await terminal.echoes(KEYSTROKES)));
        });
        rates.push(((await load.bytes()) - before) / 1e3 / elapsedMs);
      });
    }
    const p99 = { alone: quantile(alone, 0.99), loaded: quantile(loaded, 0.99) };
    return {
      title: 'Terminal under load: echo of a keystroke, p99',
      ours: `${p99.loaded.toFixed(1)} ms beside ${quantile(rates, 0.5).toFixed(0)} MB/s`,
      floor: `${p99.alone.toFixed(1)} ms`,
      judged: p99.loaded / p99.alone,
      limit: { kind: 'at most', value: 2, unit: '×' },
      method: `${ROUNDS * KEYSTROKES} single keystrokes by the e2b client's PTY, from the call to the echo, without and with a download from another port of the same sandbox, by turns of ${KEYSTROKES}. The download is another process's, as it would be a user's, and held at ${LOAD_MB_PER_SECOND} MB/s. Half of the echoes took ${quantile(alone, 0.5).toFixed(1)} ms at most without it and ${quantile(loaded, 0.5).toFixed(1)} ms with it. Where a guest is emulated, it cannot send as much, and shares its processor with the terminal.`,
    };
  } finally {
    await terminal.close();
  }
}

async function besideLoad(
  url: string,
  headers: Readonly<Record<string, string>>,
  work: (load: DownloadLoad) => Promise<void>,
): Promise<void> {
  {
    await using load = startDownloadLoad(url, headers, LOAD_MB_PER_SECOND);
    await sleep(SETTLE_MS);
    await work(load);
  }
  await sleep(SETTLE_MS);
}

/** The proxies alone, at the whole 100 MB/s whatever a guest can send: a small request beside it instead of a keystroke. */
export async function measureProxyUnderLoad(): Promise<Measure> {
  await using stack = await startProxyStack();
  const piece = Buffer.alloc(256 * 1024);
  await using application = await startApplication((incoming, response) => {
    if (incoming.url !== '/load') {
      response.end('x');
      return;
    }
    const fill = () => {
      while (!response.destroyed && response.write(piece));
      if (!response.destroyed) response.once('drain', fill);
    };
    fill();
  });
  const url = `http://127.0.0.1:${stack.edgePort}`;
  const headers = { host: stack.host(application.port) };
  const ask = async (count: number) => {
    const times: number[] = [];
    for (let index = 0; index < count; index++) {
      times.push(await timed(() => small(url, headers)));
      await sleep(5);
    }
    return times;
  };
  await ask(100);
  const alone = await ask(KEYSTROKES);
  const loaded: number[] = [];
  await besideLoad(`${url}/load`, headers, async () => {
    loaded.push(...(await ask(KEYSTROKES)));
  });
  const p99 = { alone: quantile(alone, 0.99), loaded: quantile(loaded, 0.99) };
  return {
    title: `Proxies alone: a small request beside ${LOAD_MB_PER_SECOND} MB/s, p99`,
    ours: `${p99.loaded.toFixed(2)} ms`,
    floor: `${p99.alone.toFixed(2)} ms`,
    judged: p99.loaded / p99.alone,
    limit: { unit: '×' },
    method:
      'Edge and host proxy in the process of the benchmark, which is application and client of the small request as well; reported, not judged.',
  };
}

async function small(url: string, headers: Readonly<Record<string, string>>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const outgoing = request(url, { headers }, (response) => response.resume().once('end', resolve));
    outgoing.once('error', reject).end();
  });
}

async function openTerminal(sandbox: Sandbox) {
  let heard: (() => void) | undefined;
  // `cat` prints nothing by itself, so that what comes is the terminal's echo.
  const pty = await sandbox.pty.create({ cols: 80, rows: 24, timeoutMs: 0, onData: () => heard?.() });
  await sandbox.pty.sendInput(pty.pid, Buffer.from('exec cat\n'));
  await sleep(2000);
  return {
    /** Milliseconds of each. */
    async echoes(count: number): Promise<number[]> {
      const times: number[] = [];
      for (let index = 0; index < count; index++) {
        times.push(
          await timed(async () => {
            const echo = new Promise<void>((resolve) => {
              heard = resolve;
            });
            await sandbox.pty.sendInput(pty.pid, Buffer.from('x'));
            await echo;
          }),
        );
        await sleep(PAUSE_MS);
      }
      return times;
    },
    close: () => pty.kill(),
  };
}
