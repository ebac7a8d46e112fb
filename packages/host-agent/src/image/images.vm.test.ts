import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { resolvePaths } from '@nestbox/kit';
import { createGuestClient, type GuestClient } from '../guest/guest-client.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import { hostLayout } from '../storage/layout.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { BASE_TEMPLATE_ID } from './base-template.ts';
import { checkSetup } from './check-setup.ts';
import { makeExt4 } from './ext4.ts';
import { kernelRelease } from './guest-kernel.ts';
import { type BareVm, bootBareVm } from './testing/bare-vm.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

const paths = resolvePaths();
const { complete, images, missing } = await checkSetup(paths);
const skip = !complete && `run \`nestbox setup\` first; missing: ${missing.map(({ what }) => what).join(', ')}`;

/** Emulated, and beside other tests: minutes rather than the seconds it takes alone. */
const BOOT_TIMEOUT_MS = 120_000;

function currentImages(): CurrentImages {
  if (images === undefined) throw new NestboxError('not_set_up', 'The images are missing.');
  return images;
}

async function connect(t: TestContext, vm: BareVm): Promise<GuestClient> {
  const guest = createGuestClient({ address: '127.0.0.1', port: vm.agentPort, accessToken: undefined });
  t.after(() => guest.close());
  await guest.waitUntilReady(BOOT_TIMEOUT_MS);
  return guest;
}

test('the template base boots, and holds what it promises', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  const rootfsPath = hostLayout(paths).templateRootfs(BASE_TEMPLATE_ID);
  const vm = await bootBareVm(t, { images: currentImages(), rootfsPath, folder, memoryMib: 1024, vcpuCount: 2 });
  await vm.waitForConsole(/nestbox: initrd/, BOOT_TIMEOUT_MS);
  const guest = await connect(t, vm);
  const { envVars, defaultUser } = await new TemplateStore(hostLayout(paths)).get(BASE_TEMPLATE_ID);
  await guest.init({ envVars, defaultUser });

  const run = async (script: string, user = 'user') => {
    const { stdout, stderr, exitCode } = await guest.exec({ cmd: '/bin/bash', args: ['-lc', script], user });
    assert.equal(exitCode, 0, `${script}: ${stderr}`);
    return stdout.toString().trim();
  };
  assert.equal(await run('id -un && id -u && pwd'), 'user\n1000\n/home/user');
  assert.equal(await run('sudo -n id -u'), '0');
  assert.equal(await run('python3 -c "print(sum(range(10)))"'), '45');
  assert.match(
    await run('node --version && npm --version && npx --version'),
    /^v24\.\d+\.\d+\n\d+\.\d+\.\d+\n\d+\.\d+\.\d+$/,
  );
  assert.match(
    await run('git --version && curl --version | head -1 && pip --version'),
    /^git version .*\ncurl .*\npip /s,
  );
  assert.equal(await run('locale charmap 2>/dev/null; python3 -m venv --help >/dev/null && echo venv'), 'UTF-8\nvenv');
  assert.equal(await run('hostname'), 'sandbox');
  assert.match(await run('df -BM --output=size / | tail -1'), /^\s*99\d\dM|10\d\d\dM$/);
  assert.equal(await run('ip -4 -o addr show dev eth0 | tr -s " " | cut -d" " -f4'), '169.254.0.21/30');
  assert.match(await run('ip route show default'), /default via 169\.254\.0\.22 dev eth0/);
  // Modules that nobody loaded while booting come from the agent disk.
  assert.equal(
    await run('sudo modprobe tun && test -c /dev/net/tun && uname -r'),
    kernelRelease(currentImages().kernelVersion),
  );
  assert.equal(await run('sudo touch /agent/x 2>&1 || true'), "touch: cannot touch '/agent/x': Read-only file system");
});

test('an empty root file system boots: all that the guest needs is on the agent disk', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  const tree = join(folder, 'tree');
  await mkdir(tree);
  const rootfsPath = join(folder, 'empty.ext4');
  await makeExt4({ path: rootfsPath, tree, sizeBytes: 128 * 2 ** 20, label: 'empty', journal: true });
  const vm = await bootBareVm(t, { images: currentImages(), rootfsPath, folder });
  const guest = await connect(t, vm);
  await guest.writeFile('/note', Buffer.from('written in an empty system'));
  const names = (await guest.listDir('/')).map(({ name }) => name);
  assert.ok(names.includes('note') && names.includes('agent'), names.join());
});

test('a VM without its agent disk says so and ends', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  const rootfsPath = join(folder, 'empty.ext4');
  await makeExt4({ path: rootfsPath, sizeBytes: 64 * 2 ** 20, label: 'empty', journal: true });
  const vm = await bootBareVm(t, { images: currentImages(), rootfsPath, folder, agentDisk: false });
  await vm.waitForConsole(/nestbox: initrd: the disk \/dev\/vdb did not appear/, BOOT_TIMEOUT_MS);
  await vm.waitForExit(BOOT_TIMEOUT_MS);
});

test('a root disk that is no file system is told, and the VM ends', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  const rootfsPath = join(folder, 'rubbish');
  await writeFile(rootfsPath, Buffer.alloc(2 ** 20, 0x55));
  const vm = await bootBareVm(t, { images: currentImages(), rootfsPath, folder });
  await vm.waitForConsole(/nestbox: initrd: cannot mount the root disk/, BOOT_TIMEOUT_MS);
  await vm.waitForExit(BOOT_TIMEOUT_MS);
});
