import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { resolvePath } from './paths.ts';

const ada = { home: '/home/ada' };

test('an empty path is the default workdir, and without one the home of the user', () => {
  assert.equal(resolvePath('', ada, '/srv/app'), '/srv/app');
  assert.equal(resolvePath('', ada, undefined), '/home/ada');
  assert.equal(resolvePath('', ada, ''), '/home/ada');
  assert.equal(resolvePath('', ada, '~/work'), '/home/ada/work');
});

test('a leading tilde is the home of the user', () => {
  assert.equal(resolvePath('~', ada, undefined), '/home/ada');
  assert.equal(resolvePath('~/a/../b', ada, undefined), '/home/ada/b');
});

test('an absolute path is used exactly as it was written', () => {
  for (const path of ['/', '/a', '/a//b/../c/', '/./x']) assert.equal(resolvePath(path, ada, '/srv'), path);
});

test('a relative path starts at the home of the user, not at the default workdir', () => {
  assert.equal(resolvePath('a/b', ada, '/srv/app'), '/home/ada/a/b');
  assert.equal(resolvePath('../bob/./x', ada, '/srv/app'), '/home/bob/x');
  assert.equal(resolvePath('a/~', ada, undefined), '/home/ada/a/~');
});

test("another user's home and a NUL byte are refused as invalid requests", () => {
  for (const path of ['~bob', '~bob/x', 'a\0b', '/a\0'])
    assert.throws(
      () => resolvePath(path, ada, undefined),
      (error) => error instanceof NestboxError && error.code === 'invalid_request',
      JSON.stringify(path),
    );
});
