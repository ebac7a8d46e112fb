import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { newSandboxId } from '@nestbox/contract';
import { createLogger } from '@nestbox/kit';
import { findLeftovers } from '../../../../test/support/leftovers.ts';
import { makeStateFolder, vmsCannotRun } from '../../../../test/support/state-folder.ts';
import { createGuestClient } from '../guest/guest-client.ts';
import { type HostAgent, startHostAgent } from '../host-agent.ts';
import { hostLayout } from '../storage/layout.ts';
import { testSpec } from '../testing/test-host.ts';
import { selectDriver } from '../vmm/select.ts';

const WITH_MEMORY = { memory: true };
const logger = createLogger({ level: 'warn' });

/** What a guest says to a shell command. */
async function say(host: HostAgent, sandboxId: string, line: string): Promise<string> {
  const guest = createGuestClient({ address: host.manager.target(sandboxId).address, accessToken: 'secret' });
  try {
    const { stdout, stderr, exitCode } = await guest.exec({ cmd: '/bin/sh', args: ['-c', line] });
    assert.equal(exitCode, 0, stderr.toString());
    return stdout.toString().trim();
  } finally {
    guest.close();
  }
}

/** Real guests on raw disks: by QEMU, which is made to take no others. */
async function startRawHost(t: TestContext) {
  const paths = await makeStateFolder();
  t.after(() => paths[Symbol.asyncDispose]());
  const { runDir: runRoot, instance } = paths;
  const { cacheDir } = hostLayout(paths);
  const driver = await selectDriver('qemu', { runRoot, instance, cacheDir, logger });
  Object.assign(driver, { features: { ...driver.features, diskFormats: ['raw'] } });
  const host = await startHostAgent({ paths, logger, driver, networkPoolSize: 1, useSnapshots: false });
  t.after(() => host.stop({ destroySandboxes: true }));
  return { paths, host };
}

test('real guests on raw disks have memory and disk of one moment, and their file systems are whole', {
  skip: vmsCannotRun(),
}, async (t) => {
  const { paths, host } = await startRawHost(t);
  const { manager } = host;
  const { sandboxId } = (await manager.create(testSpec({ accessToken: 'secret' }))).result;
  const digest = 'cat /root/a /root/b | sha256sum';
  // One is on the disk, the other in the guest's page cache alone.
  await say(host, sandboxId, 'head -c 3000000 /dev/urandom > /root/a; sync; head -c 2000000 /dev/urandom > /root/b');
  const before = await say(host, sandboxId, digest);

  const copy = newSandboxId();
  const { result } = await manager.fork(sandboxId, [{ sandboxId: copy, accessToken: 'secret' }]);
  assert.ok(result.every((outcome) => 'sandbox' in outcome));
  await say(host, sandboxId, 'echo other > /root/b; sync');
  assert.equal(await say(host, copy, digest), before);
  assert.equal(await say(host, sandboxId, 'cat /root/b'), 'other');

  await manager.snapshot(copy, { templateId: 'snap', names: [] });
  for (let round = 0; round < 2; round++) {
    await manager.pause(copy, WITH_MEMORY);
    await manager.resume(copy, WITH_MEMORY);
    assert.equal(await say(host, copy, `echo ${round} >> /root/c; sync; ${digest}`), before);
  }
  // Out of the guest's cache: what is on the disk.
  assert.equal(await say(host, copy, `sync; echo 3 > /proc/sys/vm/drop_caches; ${digest}`), before);
  await manager.pause(copy, { memory: false });
  await manager.resume(copy, WITH_MEMORY);
  assert.equal(await say(host, copy, `cat /root/c; ${digest}`), `0\n1\n${before}`);

  const of = (await manager.create(testSpec({ templateId: 'snap', accessToken: 'secret' }))).result.sandboxId;
  assert.equal(await say(host, of, `ls /root/c 2>/dev/null; cat /root/a | wc -c`), '3000000');
  for (const id of [sandboxId, copy, of]) {
    assert.equal(await say(host, id, 'dmesg | grep -ciE "ext4-fs (error|warning)|I/O error" || true'), '0');
    await manager.destroy(id);
  }
  await host.stop();
  assert.deepEqual(await findLeftovers(paths), []);
});
