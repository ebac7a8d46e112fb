import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pickHost } from './pick-host.ts';

describe('pickHost', () => {
  test('takes the host that has promised the smallest part of its memory', () => {
    assert.equal(
      pickHost([
        { hostId: 'small', memoryMib: 1000, committedMib: 200 },
        { hostId: 'large', memoryMib: 8000, committedMib: 1000 },
      ]),
      'large',
    );
  });

  test('takes the first of equals, so that a choice can be foretold', () => {
    const equal = ['a', 'b'].map((hostId) => ({ hostId, memoryMib: 10, committedMib: 5 }));
    assert.equal(pickHost(equal), 'a');
  });

  test('takes a host of unknown size last, and says so when there is none', () => {
    assert.equal(
      pickHost([
        { hostId: 'unknown', memoryMib: 0, committedMib: 0 },
        { hostId: 'full', memoryMib: 10, committedMib: 100 },
      ]),
      'full',
    );
    assert.equal(pickHost([{ hostId: 'unknown', memoryMib: 0, committedMib: 0 }]), 'unknown');
    assert.equal(pickHost([]), undefined);
  });
});
