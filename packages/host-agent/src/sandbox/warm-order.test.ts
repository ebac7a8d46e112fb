import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withCode } from '../testing/sandbox-checks.ts';
import { collectWarmOrder, type WarmOrder } from './warm-order.ts';

const collect = (...words: string[]) =>
  words.reduce<readonly WarmOrder[] | undefined>((previous, word) => collectWarmOrder(word, previous), undefined);

test('TEMPLATE=N words are collected', () => {
  assert.deepEqual(collect('base=0', 'ns/other:v2=100'), [
    { templateId: 'base', count: 0 },
    { templateId: 'ns/other:v2', count: 100 },
  ]);
});

test('what is no TEMPLATE=N, no number from 0 to 100 and no new template is refused, and told why', () => {
  for (const word of ['', 'base']) assert.throws(() => collect(word), /not of the form TEMPLATE=N/);
  for (const word of ['=1', ' =1']) assert.throws(() => collect(word), /names no template/);
  for (const word of ['base=', 'base=-1', 'base=101', 'base=1.5', 'base=two', 'base= 1'])
    assert.throws(() => collect(word), /from 0 to 100/);
  assert.throws(() => collect('base=1', 'base=2'), /"base" has a number already/);
  assert.throws(() => collect('base'), withCode('invalid_request'));
});
