import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runAgainstStub } from '../testing/run-against-stub.ts';
import { SANDBOX } from '../testing/wire-samples.ts';

const connect = (status: number) => ({ 'POST /v2/sandboxes/i1/connect': { status, body: SANDBOX } });

test('a paused sandbox is resumed, and with --reboot from its disk', async (t) => {
  const resumed = await runAgainstStub(t, connect(201), ['sandbox', 'resume', 'i1']);
  assert.deepEqual([resumed.exitCode, resumed.stdout, resumed.stderr], [0, 'i1\n', '']);
  assert.deepEqual(resumed.seen[0]?.json, { timeout: 300 });
  const words = ['sandbox', 'resume', 'i1', '--reboot', '--timeout', '60', '--json'];
  const rebooted = await runAgainstStub(t, connect(201), words);
  assert.equal(JSON.parse(rebooted.stdout).resumed, true);
  assert.deepEqual(rebooted.seen[0]?.json, { timeout: 60, memory: false });
});

test('one that runs is left running, which is told; but it cannot be rebooted so', async (t) => {
  const running = await runAgainstStub(t, connect(200), ['sandbox', 'resume', 'i1']);
  assert.deepEqual([running.exitCode, running.stdout], [0, 'i1\n']);
  assert.match(running.stderr, /running already/);
  const reboot = await runAgainstStub(t, connect(200), ['sandbox', 'resume', '--reboot', 'i1']);
  assert.deepEqual([reboot.exitCode, reboot.stdout], [1, '']);
  assert.match(reboot.stderr, /not rebooted.*sandbox pause --no-memory i1 \[sandbox_not_paused\]\n$/);
});
