import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTable } from './table.ts';

test('columns are as wide as their widest cell, numbers end at one place, and no line ends in spaces', () => {
  const rows = [
    ['a', '12', 'x'],
    ['long', '7', ''],
  ];
  assert.equal(formatTable(['ID', 'SIZE', 'NAME'], rows, ['SIZE']), 'ID    SIZE  NAME\na       12  x\nlong     7');
  assert.equal(formatTable(['ID'], []), 'ID');
});
