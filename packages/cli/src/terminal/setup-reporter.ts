import type { WriteStream } from 'node:tty';
import { styleText } from 'node:util';
import type { SetupProgress } from '@nestbox/host-agent/image';
import { formatSeconds } from './format-seconds.ts';

type Output = NodeJS.WritableStream & Partial<Pick<WriteStream, 'isTTY' | 'columns'>>;

const TITLE_WIDTH = 32;

/** Output that is no terminal gets a line for the beginning of a step only when the step takes longer than this. */
const WORTH_A_LINE_MS = 1000;

/** Shows a set-up: one line a step, redrawn while the step goes on when the output is a terminal. */
export function setupReporter(output: Output): (event: SetupProgress) => void {
  const live = output.isTTY === true;
  // By what this output shows, which need not be standard output.
  const styled = (color: 'red' | 'green', text: string) => styleText(color, text, { stream: output });
  const draw = (line: string) => {
    const width = (output.columns ?? 80) - 1;
    output.write(`\r\x1b[2K${line.length > width ? `${line.slice(0, width - 1)}…` : line}`);
  };
  let announcement: NodeJS.Timeout | undefined;
  return ({ state, title, detail, elapsedMs }) => {
    const name = title.padEnd(TITLE_WIDTH);
    if (state === 'started' || state === 'progress') {
      if (live) draw(`  ${name} ${detail ?? '…'}`);
      else if (state === 'started')
        announcement = setTimeout(() => output.write(`  ${name} …\n`), WORTH_A_LINE_MS).unref();
      return;
    }
    clearTimeout(announcement);
    const mark = state === 'failed' ? styled('red', '✗') : styled('green', '✔');
    const words = [
      detail ?? (state === 'skipped' ? 'there already' : ''),
      elapsedMs === undefined ? '' : `(${formatSeconds(elapsedMs)})`,
    ];
    output.write(`${live ? '\r\x1b[2K' : ''}${mark} ${name} ${words.filter((word) => word !== '').join(' ')}\n`);
  };
}
