import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadOrder, moduleName, parseModulesBuiltin, parseModulesDep } from './kernel-modules.ts';

const DEPENDENCIES = parseModulesDep(
  [
    'kernel/net/virtio_net.ko: kernel/net/failover.ko kernel/virtio/virtio.ko kernel/virtio/virtio_ring.ko',
    'kernel/net/failover.ko:',
    'kernel/virtio/virtio.ko: kernel/virtio/virtio_ring.ko',
    'kernel/virtio/virtio_ring.ko:',
    'kernel/char/virtio-rng.ko.xz: kernel/virtio/virtio.ko kernel/virtio/virtio_ring.ko',
    '',
  ].join('\n'),
);
const BUILTIN = parseModulesBuiltin('kernel/fs/ext4/ext4.ko\n');

test('each module comes after those it needs, once', () => {
  const order = loadOrder(['virtio_net', 'virtio_rng', 'virtio'], DEPENDENCIES, BUILTIN).map(moduleName);
  assert.deepEqual(order, ['failover', 'virtio_ring', 'virtio', 'virtio_net', 'virtio_rng']);
});

test('what is compiled into the kernel is left out', () => {
  assert.deepEqual(loadOrder(['ext4'], DEPENDENCIES, BUILTIN), []);
});

test('a module that the kernel does not have is named in the error', () => {
  assert.throws(() => loadOrder(['virtio_blk'], DEPENDENCIES, BUILTIN), { code: 'not_set_up', message: /virtio_blk/ });
});

test('names are as the kernel tells them, whatever the file is called', () => {
  assert.equal(moduleName('kernel/drivers/char/hw_random/virtio-rng.ko.xz'), 'virtio_rng');
  assert.equal(moduleName('virtio_blk.ko'), 'virtio_blk');
});
