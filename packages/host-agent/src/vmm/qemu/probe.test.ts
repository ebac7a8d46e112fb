import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { describeAccelerator } from './accelerator.ts';
import { QEMU_BINARY } from './command-line.ts';
import { probe, runProbeGuest } from './probe.ts';
import { buildProbeGuest, PROBE_EXIT_CODE } from './probe-guest.ts';

const WORKING_DEADLINE_MS = 60_000;

async function hasQemu(): Promise<boolean> {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const found = await Promise.all(folders.map((folder) => readFile(join(folder, QEMU_BINARY)).catch(() => undefined)));
  return found.some((content) => content !== undefined);
}

/** A program in QEMU's place. It notes how it was called; `script` decides what a probe guest's boot comes to. */
async function standIn(t: TestContext, script: string) {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-probe-test-'));
  t.after(() => rm(folder, { recursive: true }));
  const qemuBinary = join(folder, 'qemu');
  const calls = join(folder, 'calls');
  await writeFile(
    qemuBinary,
    `#!/bin/sh\necho "$*" >>${calls}\nif [ "$1" = --version ]; then echo "QEMU emulator version 9.1.2 (x)"; exit; fi\n${script}\n`,
  );
  await chmod(qemuBinary, 0o755);
  const kvmDevice = join(folder, 'kvm');
  await writeFile(kvmDevice, '');
  return {
    folder,
    options: { cacheDir: join(folder, 'cache'), qemuBinary, kvmDevice, askKvm: true },
    calls: async () => (await readFile(calls, 'utf8')).trim().split('\n'),
  };
}

test('the probe guest gets to long mode, counts, and ends QEMU with its exit code', async (t) => {
  if (!(await hasQemu())) {
    t.skip('QEMU is not installed');
    return;
  }
  assert.deepEqual(await runProbeGuest(QEMU_BINARY, 'tcg', 'max', WORKING_DEADLINE_MS), { ran: true });
});

test('the probe guest is a firmware image of 64 KiB that begins with a jump at its reset vector', () => {
  const image = buildProbeGuest();
  assert.equal(image.length, 65_536);
  assert.equal(image[0xfff0], 0xe9);
  assert.equal(PROBE_EXIT_CODE & 1, 1);
});

test('KVM is used when a probe guest ran, and the answer is remembered', async (t) => {
  const { options, calls } = await standIn(t, `exit ${PROBE_EXIT_CODE}`);
  const first = await probe(options);
  assert.equal(first.qemuVersion, '9.1.2');
  assert.ok(first.kvm.works);
  assert.equal(first.kvm.cpuModel, 'host');
  assert.deepEqual(await probe(options), first);
  assert.equal((await calls()).length, 2);
});

test('a host that refuses an MSR gets the CPU model without it', async (t) => {
  const script = `case "$*" in *arch-capabilities*) exit ${PROBE_EXIT_CODE};; esac; echo "error: failed to set MSR 0x10a" >&2; exit 134`;
  const { options } = await standIn(t, script);
  const { kvm } = await probe(options);
  assert.ok(kvm.works);
  assert.equal(kvm.cpuModel, 'host,-arch-capabilities');
});

test('a KVM that runs no guest is not used, and QEMU’s words are the reason', async (t) => {
  const { options, calls } = await standIn(t, 'echo "ioctl(KVM_CREATE_VM) failed: 19" >&2; exit 1');
  const { kvm } = await probe(options);
  assert.ok(!kvm.works);
  assert.match(kvm.reason, /KVM_CREATE_VM/);
  assert.deepEqual((await probe(options)).kvm, kvm);
  assert.equal((await calls()).length, 3);
});

test('a guest that crawls or hangs is given up at the deadline, however QEMU ends then', async (t) => {
  const { options } = await standIn(t, "trap 'exit 0' TERM; while :; do :; done");
  const outcome = await runProbeGuest(options.qemuBinary, 'kvm', 'host', 100);
  assert.ok(!outcome.ran);
  assert.equal(outcome.timedOut, true);
});

test('an exit without the guest’s code is no success', async (t) => {
  const { options } = await standIn(t, 'exit 0');
  assert.equal((await probe(options)).kvm.works, false);
});

test('an abort ends the probe with an error and remembers nothing', async (t) => {
  const { options } = await standIn(t, 'exec sleep 1000');
  await assert.rejects(probe(options, AbortSignal.timeout(50)), { code: 'deadline_exceeded' });
  await assert.rejects(readFile(join(options.cacheDir, 'qemu-probe.json')), { code: 'ENOENT' });
});

test('a missing KVM device is told without booting anything, and looked for again the next time', async (t) => {
  const { options, calls } = await standIn(t, `exit ${PROBE_EXIT_CODE}`);
  const without = await probe({ ...options, kvmDevice: join(options.cacheDir, 'nothing') });
  assert.ok(!without.kvm.works);
  assert.match(without.kvm.reason, /There is no/);
  assert.deepEqual(await calls(), ['--version']);
  assert.ok((await probe(options)).kvm.works);
  // Remembered as working, but closed now.
  const later = await probe({ ...options, kvmDevice: join(options.cacheDir, 'nothing') });
  assert.ok(!later.kvm.works);
});

test('a damaged or outdated memory of the answer is replaced', async (t) => {
  const { options } = await standIn(t, `exit ${PROBE_EXIT_CODE}`);
  const expected = await probe(options);
  const path = join(options.cacheDir, 'qemu-probe.json');
  for (const content of [
    '',
    '{',
    '{"key": 1}',
    JSON.stringify({ key: 'old', qemuVersion: '1', kvm: { works: false, reason: '' } }),
  ]) {
    await writeFile(path, content);
    const { kvm } = await probe(options);
    assert.equal(kvm.works, expected.kvm.works);
    assert.ok((await readFile(path, 'utf8')).includes('9.1.2'));
  }
});

test('a machine without QEMU is told what to install', async (t) => {
  const { options } = await standIn(t, '');
  await assert.rejects(probe({ ...options, qemuBinary: 'qemu-system-none' }), {
    code: 'not_set_up',
    message: /apt-get install/,
  });
});

test('the accelerator that was asked for is the one described', () => {
  const works = { works: true, cpuModel: 'host', reason: 'It works.' } as const;
  const fails = { works: false, reason: 'It does not.' } as const;
  assert.equal(describeAccelerator('auto', works).accelerator, 'kvm');
  assert.equal(describeAccelerator('auto', fails).accelerator, 'tcg');
  assert.match(describeAccelerator('auto', fails).reason, /It does not\./);
  assert.equal(describeAccelerator('tcg', works).accelerator, 'tcg');
  assert.match(describeAccelerator('kvm', fails).reason, /asked for, but: It does not\./);
});
