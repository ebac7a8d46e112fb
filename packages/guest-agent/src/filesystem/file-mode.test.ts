import assert from 'node:assert/strict';
import { test } from 'node:test';
import { goFileMode } from './file-mode.ts';

const cases: readonly (readonly [mode: number, text: string])[] = [
  [0o100644, '-rw-r--r--'],
  [0o100000, '----------'],
  [0o040755, 'drwxr-xr-x'],
  [0o041777, 'dtrwxrwxrwx'],
  [0o120777, 'Lrwxrwxrwx'],
  [0o104755, 'urwxr-xr-x'],
  [0o102755, 'grwxr-xr-x'],
  [0o106711, 'ugrwx--x--x'],
  [0o042775, 'dgrwxrwxr-x'],
  [0o020666, 'Dcrw-rw-rw-'],
  [0o060660, 'Drw-rw----'],
  [0o010600, 'prw-------'],
  [0o140755, 'Srwxr-xr-x'],
];

for (const [mode, text] of cases) {
  test(`mode ${mode.toString(8)} is written ${text}, as Go does`, () => {
    assert.equal(goFileMode(mode), text);
  });
}
