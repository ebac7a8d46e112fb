import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  collectKeyValue,
  commandBehindSeparator,
  parseGib,
  parseListenPort,
  parseMoment,
  parseSeconds,
  wholeNumber,
} from './option-values.ts';

test('NAME=VALUE words are collected; a value may be empty or hold more =', () => {
  const record = ['A=1', 'B=', 'C=x=y', 'A=2'].reduce<Record<string, string> | undefined>(
    (previous, word) => collectKeyValue(word, previous),
    undefined,
  );
  assert.deepEqual(record, { A: '2', B: '', C: 'x=y' });
});

test('what is no NAME=VALUE, no number of seconds and no port is refused', () => {
  for (const word of ['', 'A', '=1']) assert.throws(() => collectKeyValue(word));
  for (const word of ['', '0', '-1', '1.5', '1e3', 'x', '99999999999', ' 1']) assert.throws(() => parseSeconds(word));
  for (const word of ['', '-1', '65536', '1.0', 'http']) assert.throws(() => parseListenPort(word));
  assert.equal(parseSeconds('60'), 60);
  assert.equal(parseListenPort('0'), 0);
  assert.equal(parseListenPort('65535'), 65_535);
});

test('whole numbers within their limits and sizes in GiB are read, anything else is refused', () => {
  const upToTen = wholeNumber(1, 10);
  assert.deepEqual(['1', '10'].map(upToTen), [1, 10]);
  for (const word of ['', '0', '11', '-1', '1.0', '1e1', 'x', ' 1']) assert.throws(() => upToTen(word), /from 1 to 10/);
  assert.deepEqual(['0', '20', '0.5'].map(parseGib), [0, 20, 0.5]);
  for (const word of ['', '-1', '.5', '1e3', '20G', '9999999']) assert.throws(() => parseGib(word), /GiB/);
});

test('times are read as dates or as so long ago', () => {
  const ago = (word: string) => Math.round((Date.now() - parseMoment(word).getTime()) / 1000);
  assert.deepEqual(['90s', '30m', '12h', '7d'].map(ago), [90, 1800, 43_200, 604_800]);
  assert.equal(parseMoment('2026-01-31T12:00:00Z').toISOString(), '2026-01-31T12:00:00.000Z');
  assert.equal(parseMoment('2026-01-31').toISOString(), '2026-01-31T00:00:00.000Z');
  for (const word of ['', '7', 'd', '-1d', '1w', 'yesterday', '2026', '2026-13-01'])
    assert.throws(() => parseMoment(word), /neither a time/);
});

test('a command may begin with a dash behind the separator alone', () => {
  assert.deepEqual(commandBehindSeparator(['--', '-odd', '--json']), ['-odd', '--json']);
  assert.throws(() => commandBehindSeparator(['-odd']), /"-odd" stands behind/);
});

test('a separator in front of the command is not part of it', () => {
  assert.deepEqual(commandBehindSeparator(['--', 'ls', '--', '-l']), ['ls', '--', '-l']);
  assert.deepEqual(commandBehindSeparator(['ls', '-l']), ['ls', '-l']);
  assert.throws(() => commandBehindSeparator(['--']), /no command/);
});
