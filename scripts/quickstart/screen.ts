import { styleText } from 'node:util';
import { formatSeconds } from '../../packages/cli/src/terminal/format-seconds.ts';

/** What a step can say while it goes on. Every line carries the time since the step began. */
export type Say = (text: string) => void;

/** Shows a step: its title, what it says as it says it, and how long it took. Returns what the step returns. */
export type ShowStep = <T>(title: string, work: (say: Say) => Promise<T>) => Promise<T>;

/** After an abort no step begins any more. */
export function stepScreen(signal: AbortSignal): ShowStep {
  return (title, work) => {
    signal.throwIfAborted();
    return showStep(title, work);
  };
}

async function showStep<T>(title: string, work: (say: Say) => Promise<T>): Promise<T> {
  const begunMs = performance.now();
  const elapsed = () => formatSeconds(performance.now() - begunMs);
  console.log(`${styleText('cyan', '▸')} ${styleText('bold', title)}`);
  try {
    const result = await work((text) => {
      for (const line of text.trimEnd().split('\n')) {
        console.log(`  ${styleText('gray', elapsed().padStart(7))}  ${line}`);
      }
    });
    console.log(`  ${styleText('green', '✔')} ${elapsed()}\n`);
    return result;
  } catch (error) {
    console.log(`  ${styleText('red', '✗')} ${elapsed()}\n`);
    throw error;
  }
}
