import assert from 'node:assert/strict';
import { isIPv4 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { FIRST_SLOT, LAST_SLOT, slotIndexOfName, slotPlan, tapOwnerUid } from './slot.ts';

const anyIndex = fc.integer({ min: FIRST_SLOT, max: LAST_SLOT });
const anyInstance = fc.stringMatching(/^[0-9a-f]{6}$/);

function asNumber(address: string): number {
  assert.ok(isIPv4(address), address);
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

test('no two slots of the machine share an address or, in one installation, a name', () => {
  const seen = new Set<string>();
  for (let index = FIRST_SLOT; index <= LAST_SLOT; index++) {
    const slot = slotPlan('00beef', index);
    for (const value of [slot.netnsName, slot.hostReachableAddress, slot.hostVethAddress, slot.uplinkAddress]) {
      assert.ok(!seen.has(value), `${value} of slot ${index} is taken`);
      seen.add(value);
    }
  }
});

test('addresses are inside their ranges and the veth’s two ends are one /31', () => {
  fc.assert(
    fc.property(anyInstance, anyIndex, (instance, index) => {
      const slot = slotPlan(instance, index);
      assert.match(slot.hostReachableAddress, /^10\.11\./);
      assert.match(slot.hostVethAddress, /^10\.12\./);
      assert.match(slot.uplinkAddress, /^10\.12\./);
      const lower = asNumber(slot.hostVethAddress);
      assert.equal(lower % 2, 0);
      assert.equal(asNumber(slot.uplinkAddress), lower + 1);
      asNumber(slot.hostReachableAddress);
    }),
  );
});

test('interface names fit the kernel’s 15 characters and tell installation and index', () => {
  fc.assert(
    fc.property(anyInstance, anyInstance, anyIndex, (instance, other, index) => {
      const { vethName, netnsName } = slotPlan(instance, index);
      assert.ok(vethName.length <= 15);
      assert.equal(slotIndexOfName(instance, vethName), index);
      assert.equal(slotIndexOfName(instance, netnsName), index);
      if (other !== instance) assert.equal(slotIndexOfName(other, vethName), undefined);
    }),
  );
});

test('names of others are no slot’s', () => {
  for (const name of [
    'eth0',
    'nb-',
    'nb-aaaaaa-',
    'nb-aaaaaa-0',
    'nb-aaaaaa-01',
    'nb-aaaaaa-32768',
    'nb-aaaaaa-1x',
    'xnb-aaaaaa-1',
  ])
    assert.equal(slotIndexOfName('aaaaaa', name), undefined, name);
  fc.assert(
    fc.property(fc.string(), (name) => {
      const index = slotIndexOfName('aaaaaa', name);
      assert.ok(index === undefined || slotPlan('aaaaaa', index).netnsName === name);
    }),
  );
});

test('every slot’s TAP has an owner of its own, one that other programs’ user ids stay clear of', () => {
  assert.equal(tapOwnerUid(slotPlan('aaaaaa', FIRST_SLOT)), 1_879_048_193);
  assert.equal(tapOwnerUid(slotPlan('aaaaaa', LAST_SLOT)), 1_879_080_959);
});

test('an index or a tag that is none is refused', () => {
  for (const index of [0, -1, 32_768, 1.5, Number.NaN]) assert.throws(() => slotPlan('aaaaaa', index), RangeError);
  for (const tag of ['', 'aaaaa', 'aaaaaaa', 'AAAAAA', 'a-aaaa', 'zzzzzz'])
    assert.throws(() => slotPlan(tag, 1), RangeError);
});
