import { InvalidArgumentError } from 'commander';

/** Collects `--env A=1 --env B=2` into one record. The value may be empty and may hold more `=`. */
export function collectKeyValue(word: string, previous: Readonly<Record<string, string>> = {}): Record<string, string> {
  const split = word.indexOf('=');
  if (split < 1) throw new InvalidArgumentError(`"${word}" is not of the form NAME=VALUE.`);
  return { ...previous, [word.slice(0, split)]: word.slice(split + 1) };
}

/** A whole number of seconds, at least 1 and at most a year (what a 32-bit count of milliseconds cannot hold fails later). */
export function parseSeconds(word: string): number {
  const seconds = Number(word);
  if (!/^[0-9]+$/.test(word) || seconds < 1 || seconds > MAX_SECONDS)
    throw new InvalidArgumentError(`"${word}" is not a number of seconds from 1 to ${MAX_SECONDS}.`);
  return seconds;
}

/** Longest delay of a timer in Node: 2^31-1 ms. */
const MAX_SECONDS = 2_147_483;

/** 0 (any free one) to 65535. */
export function parseListenPort(word: string): number {
  const port = Number(word);
  if (!/^[0-9]{1,5}$/.test(word) || port > 65_535)
    throw new InvalidArgumentError(`"${word}" is not a port from 0 to 65535.`);
  return port;
}

/**
 * The command behind `--`. Where another argument stands before it (`sandbox exec <id> -- ls`), commander passes the
 * separator on as a word. Throws when nothing follows it.
 */
export function commandBehindSeparator(words: readonly string[]): readonly string[] {
  const command = words[0] === '--' ? words.slice(1) : words;
  if (command.length === 0) throw new InvalidArgumentError('There is no command behind "--".');
  return command;
}
