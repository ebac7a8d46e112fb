import { open } from 'node:fs/promises';

/** The last bytes of a file, nothing before `fromOffset`, as text; empty when there is no such file. */
export async function readFileTail(path: string, maxBytes: number, fromOffset = 0): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const length = Math.max(0, Math.min(size - fromOffset, maxBytes));
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: terminal control sequences are what is looked for
const TERMINAL_SEQUENCES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_c])/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: so are control characters
const CONTROL_CHARACTERS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g;

/**
 * The last lines of a text that came from a guest or a VMM, fit to stand in an error message: no terminal sequences, no
 * control characters, no empty lines, bounded in lines and in length.
 */
export function lastLines(text: string, maxLines: number, maxChars = 1000): string {
  const plain = text.replaceAll(TERMINAL_SEQUENCES, '').replaceAll('\r', '\n').replaceAll(CONTROL_CHARACTERS, '');
  const lines = plain
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '');
  return lines.slice(-maxLines).join('\n').slice(-maxChars);
}
