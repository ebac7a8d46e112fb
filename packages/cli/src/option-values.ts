import { NestboxError } from '@nestbox/contract';
import { parseOpenedRanges } from '@nestbox/host-agent/opened-ranges';
import { collectWarmOrder, type WarmOrder } from '@nestbox/host-agent/warm-order';
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

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time: so long ago (`90s`, `30m`, `12h`, `7d`), or a date with or without a time of day, as ISO 8601 has it. */
export function parseMoment(word: string): Date {
  const [, count, unit = ''] = /^([0-9]{1,6})([smhd])$/.exec(word) ?? [];
  const ago = UNIT_MS[unit];
  if (count !== undefined && ago !== undefined) return new Date(Date.now() - Number(count) * ago);
  const moment = new Date(word);
  if (!/^[0-9]{4}-[0-9]{2}-[0-9]{2}/.test(word) || Number.isNaN(moment.getTime()))
    throw new InvalidArgumentError(
      `"${word}" is neither a time (2026-01-31T12:00:00Z) nor so long ago (30m, 12h, 7d).`,
    );
  return moment;
}

/** A parser of whole numbers from `min` to `max`. */
export function wholeNumber(min: number, max: number): (word: string) => number {
  return (word) => {
    const number = Number(word);
    if (!/^[0-9]+$/.test(word) || number < min || number > max)
      throw new InvalidArgumentError(`"${word}" is not a whole number from ${min} to ${max}.`);
    return number;
  };
}

/** A size in GiB, fractions allowed. */
export function parseGib(word: string): number {
  const gib = Number(word);
  if (!/^[0-9]+(\.[0-9]+)?$/.test(word) || gib > MAX_GIB)
    throw new InvalidArgumentError(`"${word}" is not a size in GiB from 0 to ${MAX_GIB}.`);
  return gib;
}

/** A PiB: more than a host has, and its bytes are still counted exactly. */
const MAX_GIB = 1_048_576;

/** Collects `--warm base=2 --warm other=1`, by the host agent's own rules. */
export function collectWarm(word: string, previous?: readonly WarmOrder[]): readonly WarmOrder[] {
  return byHostRules(() => collectWarmOrder(word, previous));
}

/** Collects `--allow-private 10.1.2.0/24 --allow-private 10.1.3.4`, likewise. */
export function collectPrivate(word: string, previous: readonly string[] = []): readonly string[] {
  byHostRules(() => parseOpenedRanges([word]));
  return [...previous, word];
}

function byHostRules<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof NestboxError ? new InvalidArgumentError(error.message) : error;
  }
}

/** 0 (any free one) to 65535. */
export function parseListenPort(word: string): number {
  const port = Number(word);
  if (!/^[0-9]{1,5}$/.test(word) || port > 65_535)
    throw new InvalidArgumentError(`"${word}" is not a port from 0 to 65535.`);
  return port;
}

/**
 * The command behind `--`. Where another argument stands before it (`sandbox exec <id> -- ls`), commander passes the
 * separator on as a word. Throws when nothing follows it, and when an option stands where the command should begin: what is
 * written there is taken for the command's, so the user would be told that there is no program of that name.
 */
export function commandBehindSeparator(words: readonly string[]): readonly string[] {
  const command = words[0] === '--' ? words.slice(1) : words;
  if (command.length === 0) throw new InvalidArgumentError('There is no command behind "--".');
  if (words[0] !== '--' && words[0]?.startsWith('-'))
    throw new InvalidArgumentError(`The option "${words[0]}" stands behind the sandbox's id; put it in front of that.`);
  return command;
}
