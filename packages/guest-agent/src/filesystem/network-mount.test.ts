import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { isNetworkMagic, isOnNetworkMount } from './network-mount.ts';

test('NFS, SMB in each generation and FUSE are network mounts, however the number is signed', () => {
  for (const magic of [0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546]) {
    assert.ok(isNetworkMagic(magic), magic.toString(16));
    assert.ok(isNetworkMagic(magic | 0), `${magic.toString(16)}, signed`);
  }
});

test('ext4, tmpfs, overlayfs and procfs are not', () => {
  for (const magic of [0xef53, 0x01021994, 0x794c7630, 0x9fa0]) assert.ok(!isNetworkMagic(magic), magic.toString(16));
});

test('the temporary directory and /proc are local', async () => {
  assert.equal(await isOnNetworkMount(tmpdir()), false);
  assert.equal(await isOnNetworkMount('/proc'), false);
});
