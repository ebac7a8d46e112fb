import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('./load-reader.ts', import.meta.url));

/** A download that goes on beside what is measured, in a process of its own; it ends with this. */
export interface DownloadLoad extends AsyncDisposable {
  /** How much has come so far. Rejects when the download has failed. */
  bytes(): Promise<number>;
}

/** Begins to read an endless answer, at no more than `mbPerSecond` (10^6 bytes). */
export function startDownloadLoad(
  url: string,
  headers: Readonly<Record<string, string>>,
  mbPerSecond: number,
): DownloadLoad {
  const child = fork(PROGRAM, [url, String(mbPerSecond), JSON.stringify(headers)]);
  const ended = once(child, 'exit');
  return {
    async bytes() {
      child.send('bytes');
      const [answer] = await Promise.race([
        once(child, 'message'),
        ended.then(() => Promise.reject(new Error('the download beside the measure has ended'))),
      ]);
      return Number(answer);
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await ended;
    },
  };
}
