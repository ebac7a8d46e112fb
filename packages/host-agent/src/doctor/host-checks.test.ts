import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import type { VmmDescription } from '../vmm/driver.ts';
import { checkImages } from './image-checks.ts';
import { hostChecks } from './index.ts';
import { checkPackages } from './package-checks.ts';
import { checkVmm } from './vmm-checks.ts';

async function emptyInstallation(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-doctor-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return { stateDir: join(folder, 'state'), runDir: join(folder, 'run'), instance: '000000' };
}

test('every need is named once, and what is not met says how to mend it', async (t) => {
  const paths = await emptyInstallation(t);
  const checks = await hostChecks({ paths });
  const ids = checks.map(({ id }) => id);
  assert.deepEqual(ids, [...new Set(ids)]);
  for (const { id, state, found, why, mend } of checks) {
    assert.ok(found !== '' && why !== '', id);
    assert.equal(mend === undefined, state === 'ok', id);
  }
});

test('images that were never made are told, with the command that makes them', async (t) => {
  const checks = await hostChecks({ paths: await emptyInstallation(t) });
  const images = checks.filter(({ id }) => id.startsWith('image-'));
  assert.deepEqual(
    images.map(({ id, state }) => [id, state]),
    [
      ...['kernel', 'initrd', 'agent-disk', 'base-template'].map((step) => [`image-${step}`, 'failed']),
      // Sandboxes boot without.
      ['image-snapshots', 'warning'],
    ],
  );
  for (const { mend } of images) assert.match(mend ?? '', /nestbox setup/);
});

test('what is open to root alone is said to be so', { skip: process.getuid?.() !== 0 && 'needs root' }, async (t) => {
  const paths = await emptyInstallation(t);
  await mkdir(join(paths.stateDir, 'templates'), { recursive: true });
  await chmod(dirname(paths.stateDir), 0o711);
  await chmod(join(paths.stateDir, 'templates'), 0o700);
  process.seteuid?.('nobody');
  const checks = await checkImages(paths).finally(() => process.seteuid?.(0));
  assert.deepEqual(
    checks.map(({ id, state }) => [id, state]),
    [['images', 'warning']],
  );
});

test('a missing package fails when sandboxes run with it, and warns when only set-up uses it', async () => {
  const gone = { needs: ['nestbox-not-there'], why: 'do something' } as const;
  const checks = await checkPackages([
    { ...gone, name: 'runner', use: 'run' },
    { ...gone, name: 'maker', use: 'set-up' },
    { name: 'shell', needs: ['sh'], why: 'run scripts', use: 'run' },
  ]);
  assert.deepEqual(
    checks.map(({ state }) => state),
    ['failed', 'warning', 'ok'],
  );
  assert.match(checks[0]?.mend ?? '', /apt-get install .*runner/);
});

test('KVM is fine, emulation is a warning, and nothing that runs guests a failure', async () => {
  const description: VmmDescription = { vmm: 'qemu', version: '7.2', accelerator: 'kvm', reason: 'it works' };
  const state = async (accelerator: VmmDescription['accelerator']) =>
    (await checkVmm(async () => ({ ...description, accelerator }))).state;
  assert.deepEqual(await Promise.all([state('kvm'), state('tcg'), state('none')]), ['ok', 'warning', 'failed']);
  const broken = await checkVmm(() => Promise.reject(new NestboxError('not_set_up', 'There is no QEMU.')));
  assert.equal(broken.state, 'failed');
  assert.match(broken.found, /no QEMU/);
});
