import assert from 'node:assert/strict';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { runCommand } from '@nestbox/kit';
import { buildInitrd, dottedNetmask, isStaticElf, modulesScript, planModules, readInitScript } from './initrd.ts';
import { writeModuleTree } from './testing/module-tree.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

test('modules are split into what every machine loads and what one transport loads', async (t) => {
  const tree = await temporaryFolder(t);
  await writeModuleTree(tree);
  assert.equal(
    modulesScript(await planModules(tree)),
    [
      "TRANSPORT_COMMON='virtio_ring virtio'",
      "TRANSPORT_PCI='virtio_pci_modern_dev virtio_pci'",
      "TRANSPORT_MMIO='virtio_mmio'",
      "DRIVERS='virtio_blk failover net_failover virtio_net'",
      '',
    ].join('\n'),
  );
});

test('a module whose name could end a shell word is refused', () => {
  const plan = { TRANSPORT_COMMON: ["kernel/x';poweroff;'.ko"], TRANSPORT_PCI: [], TRANSPORT_MMIO: [], DRIVERS: [] };
  assert.throws(() => modulesScript(plan), { code: 'not_set_up' });
});

test('the archive holds a static busybox, every program that init calls, and the modules unpacked', async (t) => {
  const folder = await temporaryFolder(t);
  const tree = await temporaryFolder(t);
  await writeModuleTree(tree, (content) => gzipSync(content));
  const archive = await buildInitrd(tree);
  await runCommand('busybox', ['cpio', '-i', '-d'], { cwd: folder, input: archive });

  assert.ok(isStaticElf(await readFile(join(folder, 'bin/busybox'))));
  assert.ok((await lstat(join(folder, 'dev/console'))).isCharacterDevice());
  assert.equal((await lstat(join(folder, 'init'))).mode & 0o111, 0o111);
  assert.equal(await readFile(join(folder, 'modules/virtio_blk.ko'), 'utf8'), 'kernel/drivers/block/virtio_blk.ko');
  for (const name of (await readdir(join(folder, 'bin'))).filter((file) => file !== 'busybox'))
    assert.equal(await readlink(join(folder, 'bin', name)), 'busybox');
  for (const applet of [
    'mount',
    'insmod',
    'switch_root',
    'ifconfig',
    'route',
    'poweroff',
    'mkdir',
    'sh',
    'sleep',
    'ln',
  ])
    assert.ok((await readdir(join(folder, 'bin'))).includes(applet), applet);
});

test('the same kernel gives the same bytes', async (t) => {
  const tree = await temporaryFolder(t);
  await writeModuleTree(tree);
  assert.deepEqual(await buildInitrd(tree), await buildInitrd(tree));
});

test('init is a shell script whose first output is the sign of life', async () => {
  const script = await readInitScript();
  await runCommand('/bin/busybox', ['sh', '-n', '-s'], { input: script });
  const firstCommand = script.split('\n').find((line) => line !== '' && !line.startsWith('#'));
  assert.equal(firstCommand, "echo 'nestbox: initrd'");
  assert.match(script, /ifconfig eth0 169\.254\.0\.21 netmask 255\.255\.255\.252 up/);
  assert.match(script, /route add default gw 169\.254\.0\.22/);
  assert.doesNotMatch(script, /@[A-Z_]+@/);
});

test('prefix lengths become netmasks', () => {
  assert.equal(dottedNetmask(30), '255.255.255.252');
  assert.equal(dottedNetmask(0), '0.0.0.0');
  assert.equal(dottedNetmask(32), '255.255.255.255');
});

test('a program with a dynamic loader, or none at all, is not static', async () => {
  assert.equal(isStaticElf(await readFile('/bin/ls')), false);
  assert.equal(isStaticElf(Buffer.from('#!/bin/sh\n')), false);
  assert.equal(isStaticElf(new Uint8Array(0)), false);
});
