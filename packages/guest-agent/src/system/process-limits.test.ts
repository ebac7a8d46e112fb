import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ProcessLimits } from './process-limits.ts';

function softOpenFiles(): number {
  return Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
}

test('a child begins with the usual limit of open files, and ours is as before afterwards', () => {
  const limits = new ProcessLimits();
  const own = softOpenFiles();
  assert.ok(own > 1024, 'Node raises its own');
  const ofChild = () => execFileSync('/bin/sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim();
  assert.equal(limits.withUsualOpenFiles(20, ofChild), '1024');
  assert.equal(softOpenFiles(), own);
  assert.throws(() =>
    limits.withUsualOpenFiles(20, () => {
      assert.equal(softOpenFiles(), 1024);
      throw new Error('no such program');
    }),
  );
  assert.equal(softOpenFiles(), own);
});

test('with so many descriptors that a child would get none, its limit is not lowered before it runs', () => {
  const own = softOpenFiles();
  assert.equal(
    new ProcessLimits().withUsualOpenFiles(1000, () => softOpenFiles()),
    own,
  );
});
