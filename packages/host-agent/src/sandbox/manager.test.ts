import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive } from '@nestbox/kit';
import { until, untilState, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, testSpec } from '../testing/test-host.ts';

describe('a create', () => {
  test('answers a running sandbox whose guest agent has its settings', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec({ envVars: { BOTH: 'create' }, accessToken: 'secret', allowInternetAccess: false });
    const { result: sandbox } = await manager.create(spec);

    assert.equal(sandbox.state, 'running');
    assert.equal(sandbox.templateId, 'base00000000000000t1');
    assert.equal(sandbox.envdVersion, '0.6.99');
    assert.deepEqual([sandbox.vcpuCount, sandbox.memoryMib, sandbox.diskMib], [2, 512, 1024]);
    const [slot] = testHost.networks.inUse.values();
    assert.deepEqual(testHost.networks.egress.get(slot?.index ?? 0)?.denied, [{ first: 0, last: 2 ** 32 - 1 }]);
    const init = JSON.parse(await (await fetch(`http://${slot?.hostReachableAddress}:49983/last-init`)).text());
    assert.match(init.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
    assert.ok(Math.abs(Date.parse(init.timestamp) - Date.now()) < 60_000);
    assert.equal(typeof init.lifecycle_id, 'string');
    assert.deepEqual(init.envVars, { FROM_TEMPLATE: 'yes', BOTH: 'create' });
    assert.equal(init.accessToken, 'secret');
    assert.equal(init.defaultUser, 'user');
    assert.equal(init.sandbox_id, spec.sandboxId);
    assert.equal(init.template_id, 'base00000000000000t1');
    assert.equal((await manager.metrics(spec.sandboxId)).cpuUsedPct, 12.5);

    assert.equal(await manager.destroy(spec.sandboxId), true);
    assert.equal(await manager.destroy(spec.sandboxId), false);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('that is repeated joins the one under way, then answers the running sandbox', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec({ envVars: { A: '1', B: '2' } });
    const same = { ...spec, envVars: { B: '2', A: '1' } };
    const [first, second] = await Promise.all([manager.create(spec), manager.create(same)]);
    assert.deepEqual(second, first);
    assert.deepEqual((await manager.create(spec)).result, first.result);
    assert.equal(testHost.networks.inUse.size, 1);
  });

  test('with other settings under the same id is a conflict, while starting and when running', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec();
    const creating = manager.create(spec);
    await assert.rejects(manager.create({ ...spec, envVars: { X: '1' } }), withCode('conflict'));
    await creating;
    await assert.rejects(manager.create({ ...spec, accessToken: 'other' }), withCode('conflict'));
  });

  test('goes on when the caller that began it has gone', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec();
    const caller = new AbortController();
    const abandoned = manager.create(spec, caller.signal);
    caller.abort();
    await assert.rejects(abandoned, withCode('deadline_exceeded'));
    assert.equal((await manager.create(spec)).result.state, 'running');
  });

  for (const [what, failure, code, pattern] of [
    ['a VMM that dies at once', { diesDuringBoot: true }, 'vm_died', /dies as it was told/],
    ['a VM that the driver refuses', { startError: new NestboxError('not_set_up', 'no VMM') }, 'not_set_up', /no VMM/],
  ] as const)
    test(`with ${what} says so and leaves nothing`, async (t) => {
      const testHost = await makeTestHost(t);
      const { manager } = await testHost.start();
      Object.assign(testHost.failures, failure);
      const spec = testSpec();
      await assert.rejects(manager.create(spec), withCode(code, pattern));
      assert.deepEqual(await testHost.leftovers(), []);
      assert.deepEqual(manager.list(), []);
    });

  for (const [mood, code, pattern] of [
    ['deaf', 'boot_timeout', /not ready within 700 ms[\s\S]*this is the last line of the console/],
    ['unwell', 'boot_timeout', /not ready within 700 ms/],
    ['no-init', 'sandbox_unreachable', /access token validation failed/],
    ['dies-on-init', 'vm_died', /ended while it was starting/],
  ] as const)
    test(`with a guest agent that is "${mood}" answers ${code} and leaves nothing`, async (t) => {
      const testHost = await makeTestHost(t);
      // Long enough for the agent's process where it has to answer something.
      const bootTimeoutMs = code === 'boot_timeout' ? 700 : 60_000;
      const { manager } = await testHost.start({ limits: { bootTimeoutMs } });
      testHost.agent.mood = mood;
      const spec = testSpec();
      await assert.rejects(manager.create(spec), withCode(code, pattern));
      assert.deepEqual(await testHost.leftovers(), []);
      assert.throws(() => manager.get(spec.sandboxId), withCode('sandbox_not_found', pattern));
    });

  test('without a free network leaves nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    testHost.networks.acquireError = new NestboxError('host_capacity', 'no slot');
    await assert.rejects(manager.create(testSpec()), withCode('host_capacity'));
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('of an unknown template, and on a host without images, says what is missing', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    await assert.rejects(manager.create(testSpec({ templateId: 'nope' })), withCode('template_not_found', /nope/));
    await rm(testHost.layout.currentImages);
    await assert.rejects(manager.create(testSpec()), withCode('not_set_up', /nestbox setup/));
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('beyond the limits of the host is refused in words, and fits again after a destroy', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSandboxes: 2, maxMemoryMib: 1000 } });
    const first = testSpec();
    await manager.create(first);
    await assert.rejects(manager.create(testSpec()), withCode('host_capacity', /512 MiB[\s\S]*488 of the 1000 MiB/));
    await manager.destroy(first.sandboxId);
    await manager.create(testSpec());
  });

  test('of several at once keeps to the number of boots at once', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxConcurrentBoots: 1 } });
    const specs = [testSpec(), testSpec(), testSpec()];
    const sandboxes = await Promise.all(specs.map((spec) => manager.create(spec)));
    assert.deepEqual(
      sandboxes.map(({ result }) => result.state),
      ['running', 'running', 'running'],
    );
  });
});

describe('a destroy', () => {
  test('ends a create under way, and both callers are told', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    testHost.agent.mood = 'deaf';
    const spec = testSpec();
    const events = manager.watch(AbortSignal.timeout(60_000));
    const starting = untilState(events, spec.sandboxId, 'starting');
    const creating = assert.rejects(manager.create(spec), withCode('sandbox_stopping', /while it was starting/));
    await starting;
    assert.equal(await manager.destroy(spec.sandboxId), true);
    await creating;
    assert.deepEqual(await testHost.leftovers(), []);
    assert.deepEqual(manager.list(), []);
  });

  test('at any moment of a create leaves nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    for (let elapsedMs = 0; elapsedMs < 150; elapsedMs += 12) {
      const spec = testSpec();
      const creating = manager.create(spec).catch((error: unknown) => error);
      await delay(elapsedMs);
      await manager.destroy(spec.sandboxId);
      await creating;
      assert.deepEqual(await testHost.leftovers(), [], `after ${elapsedMs} ms`);
    }
  });

  test('that another one overtakes is fine, and a create that comes meanwhile is told to wait', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec();
    await manager.create(spec);
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    testHost.failures.destroyGate = gate;
    const destroys = [manager.destroy(spec.sandboxId), manager.destroy(spec.sandboxId)];
    await new Promise((resolve) => setImmediate(resolve));
    await assert.rejects(manager.create(spec), withCode('sandbox_stopping'));
    assert.throws(() => manager.target(spec.sandboxId), withCode('sandbox_stopping', /is ending/));
    open();
    assert.deepEqual(await Promise.all(destroys), [true, false]);
    // The id is free again.
    assert.equal((await manager.create(spec)).result.state, 'running');
  });

  test('of a sandbox that never was answers that there was nothing', async (t) => {
    const { manager } = await (await makeTestHost(t)).start();
    assert.equal(await manager.destroy('i00000000000000000000'), false);
  });

  test('that cannot end the VM keeps its record, and can be repeated', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec();
    await manager.create(spec);
    const { promise: gate, reject: fail } = Promise.withResolvers<void>();
    gate.catch(() => {});
    testHost.failures.destroyGate = gate;
    fail(new Error('the VMM does not end'));
    await assert.rejects(manager.destroy(spec.sandboxId), withCode('internal', /try again/));
    assert.equal(manager.get(spec.sandboxId).state, 'stopping');
    const record = JSON.parse(await readFile(testHost.layout.sandboxRecord(spec.sandboxId), 'utf8'));
    assert.equal(record.situation.state, 'stopping');
    delete testHost.failures.destroyGate;
    assert.equal(await manager.destroy(spec.sandboxId), true);
    assert.deepEqual(await testHost.leftovers(), []);
  });
});

describe('a VM that dies', () => {
  test('takes its sandbox along, and the watch and later questions say why', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec();
    await manager.create(spec);
    const record = JSON.parse(await readFile(testHost.layout.sandboxRecord(spec.sandboxId), 'utf8'));
    const events = manager.watch(AbortSignal.timeout(60_000));
    const gone = untilState(events, spec.sandboxId, 'gone');
    process.kill(record.situation.vm.process.pid, 'SIGKILL');
    assert.match(await gone, /Its VM ended/);
    assert.throws(() => manager.get(spec.sandboxId), withCode('sandbox_not_found', /Its VM ended/));
    assert.deepEqual(await testHost.leftovers(), []);
  });
});

describe('a watch', () => {
  test('begins with the whole list and tells each change until its caller goes', async (t) => {
    const { manager } = await (await makeTestHost(t)).start();
    const first = testSpec();
    await manager.create(first);
    const caller = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const event of manager.watch(caller.signal)) {
        if (event.kind === 'snapshot') seen.push(`list of ${event.sandboxes.length}`);
        else seen.push(event.sandbox.state);
        if (seen.at(-1) === 'gone') caller.abort();
      }
    })();
    const second = testSpec();
    await manager.create(second);
    await manager.destroy(second.sandboxId);
    await watching;
    assert.equal(seen[0], 'list of 1');
    assert.deepEqual(seen.slice(-2), ['stopping', 'gone']);
    assert.ok(seen.includes('running'));
  });
});

describe('a stop', () => {
  test('leaves running sandboxes alone, ends creates under way, and refuses new ones', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const { manager } = host;
    const spec = testSpec();
    await manager.create(spec);
    testHost.agent.mood = 'deaf';
    const creating = assert.rejects(manager.create(testSpec()), withCode('host_unavailable'));
    await host.stop({ destroySandboxes: false });
    await creating;
    await assert.rejects(manager.create(testSpec()), withCode('host_unavailable'));
    const left = (await testHost.leftovers()).map((name) => name.split(' ', 1)[0]);
    assert.deepEqual(new Set(left), new Set(['process', 'slot', 'sandbox', 'run']));
    assert.equal(left.length, 4);
  });

  test('with its sandboxes leaves nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    await Promise.all([host.manager.create(testSpec()), host.manager.create(testSpec())]);
    await host.stop({ destroySandboxes: true });
    await host.stop({ destroySandboxes: false });
    assert.deepEqual(await testHost.leftovers(), []);
    assert.equal(existsSync(testHost.paths.runDir), false);
  });
});

describe('a host agent that starts', () => {
  test('finds running sandboxes again, with their settings', async (t) => {
    const testHost = await makeTestHost(t);
    const before = await testHost.start();
    const spec = testSpec({ accessToken: 'secret', envVars: { A: '1' } });
    const { result: created } = await before.manager.create(spec);
    await before.stop();
    const { manager } = await testHost.start();
    assert.deepEqual(manager.get(spec.sandboxId), created);
    assert.deepEqual((await manager.create(spec)).result, created);
    assert.equal((await manager.metrics(spec.sandboxId)).cpuCount, 2);
    // Its end is noticed too.
    const events = manager.watch(AbortSignal.timeout(60_000));
    const gone = untilState(events, spec.sandboxId, 'gone');
    const record = JSON.parse(await readFile(testHost.layout.sandboxRecord(spec.sandboxId), 'utf8'));
    process.kill(record.situation.vm.process.pid, 'SIGKILL');
    await gone;
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('removes what did not survive: dead VMs, half-made and damaged records, lost networks, orphans', async (t) => {
    const testHost = await makeTestHost(t);
    const before = await testHost.start();
    const specs = Array.from({ length: 5 }, () => testSpec());
    for (const spec of specs) await before.manager.create(spec);
    await before.stop();
    const [dead, starting, stopping, damaged, lost] = specs.map(({ sandboxId }) => sandboxId);
    const recordOf = (id = '') => testHost.layout.sandboxRecord(id);
    const read = async (id = '') => JSON.parse(await readFile(recordOf(id), 'utf8'));

    const { process: killed } = (await read(dead)).situation.vm;
    process.kill(killed.pid, 'SIGKILL');
    await until('its end', () => !isProcessAlive(killed));
    await writeFile(
      recordOf(starting),
      JSON.stringify({ ...(await read(starting)), situation: { state: 'starting' } }),
    );
    await writeFile(
      recordOf(stopping),
      JSON.stringify({ ...(await read(stopping)), situation: { state: 'stopping' } }),
    );
    testHost.networks.lost.add((await read(lost)).situation.slot.index);
    const text = await readFile(recordOf(damaged), 'utf8');
    await writeFile(recordOf(damaged), text.replace('"format"', 'format'));
    const { manager } = await testHost.start();
    assert.deepEqual(manager.list(), []);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('ends a sandbox that it took over but whose guest no longer answers', async (t) => {
    const testHost = await makeTestHost(t);
    const before = await testHost.start();
    const spec = testSpec();
    await before.manager.create(spec);
    await before.stop();
    const path = testHost.layout.sandboxRecord(spec.sandboxId);
    const record = JSON.parse(await readFile(path, 'utf8'));
    // Nobody listens there.
    record.situation.slot.hostReachableAddress = '127.255.255.254';
    await writeFile(path, JSON.stringify(record));
    const { manager } = await testHost.start({ limits: { takeoverTimeoutMs: 300 } });
    assert.equal(manager.get(spec.sandboxId).state, 'running');
    const reason = await untilState(manager.watch(AbortSignal.timeout(60_000)), spec.sandboxId, 'gone');
    assert.match(reason, /did not answer within 300 ms/);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('keeps a sandbox whose guest does not answer since its VM manager does not, and which goes on when that does', async (t) => {
    const testHost = await makeTestHost(t);
    const before = await testHost.start();
    const { sandboxId } = (await before.manager.create(testSpec())).result;
    const { vm } = await testHost.running(sandboxId);
    await before.stop();
    process.kill(-vm.process.pid, 'SIGSTOP');
    testHost.failures.statusError = new NestboxError('sandbox_unreachable', 'its manager does not answer.');
    const { manager } = await testHost.start({ limits: { takeoverTimeoutMs: 300 } });
    await until('what is wrong', () => manager.get(sandboxId).reason !== undefined);
    const { state, reason } = manager.get(sandboxId);
    assert.deepEqual([state, reason?.split(' It')[0]], ['running', 'its manager does not answer.']);
    delete testHost.failures.statusError;
    await until('its going on', () => manager.get(sandboxId).reason === undefined);
    assert.equal((await manager.metrics(sandboxId)).cpuCount, 2);
  });

  test('on the folder of another one is refused, and the other goes on', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec();
    await manager.create(spec);
    await assert.rejects(testHost.start(), withCode('state_dir_in_use'));
    assert.equal((await manager.metrics(spec.sandboxId)).cpuCount, 2);
  });
});

describe('where a sandbox may connect to', () => {
  const everything = { first: 0, last: 2 ** 32 - 1 };
  const isTold = async (testHost: Awaited<ReturnType<typeof makeTestHost>>, sandboxId: string) =>
    testHost.networks.egress.get((await testHost.running(sandboxId)).slot.index);

  test('is changed while it runs, survives a pause and a new host agent, and goes to copies', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const spec = testSpec();
    const { sandboxId } = spec;
    await host.manager.create(spec);
    assert.equal(await isTold(testHost, sandboxId), undefined);
    await host.manager.setEgress(sandboxId, {
      allowInternetAccess: true,
      allowOut: ['1.1.1.1'],
      denyOut: ['0.0.0.0/0'],
    });
    assert.deepEqual((await isTold(testHost, sandboxId))?.denied, [everything]);

    await host.manager.pause(sandboxId, { memory: true });
    await assert.rejects(
      host.manager.setEgress(sandboxId, { allowInternetAccess: true, allowOut: [], denyOut: [] }),
      withCode('sandbox_paused'),
    );
    await host.manager.resume(sandboxId, { memory: true });
    assert.equal((await isTold(testHost, sandboxId))?.allowed.length, 1);
    const copy = testSpec();
    await host.manager.fork(sandboxId, [{ sandboxId: copy.sandboxId, accessToken: undefined }]);
    assert.equal((await isTold(testHost, copy.sandboxId))?.allowed.length, 1);

    await host.stop({ destroySandboxes: false });
    testHost.networks.egress.clear();
    const { manager } = await testHost.start();
    assert.deepEqual((await isTold(testHost, sandboxId))?.denied, [everything]);
    await manager.destroy(sandboxId);
    await manager.destroy(copy.sandboxId);
  });

  test('stays as it was when it cannot be understood or the kernel refuses it', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const spec = testSpec({ denyOut: ['9.9.9.9'] });
    await manager.create(spec);
    await assert.rejects(
      manager.setEgress(spec.sandboxId, { allowInternetAccess: true, allowOut: [], denyOut: ['nonsense'] }),
      withCode('invalid_request'),
    );
    testHost.networks.egressError = new NestboxError('internal', 'no');
    await assert.rejects(
      manager.setEgress(spec.sandboxId, { allowInternetAccess: false, allowOut: [], denyOut: [] }),
      withCode('internal'),
    );
    testHost.networks.egressError = undefined;
    assert.equal((await isTold(testHost, spec.sandboxId))?.denied.length, 1);
    assert.equal((await manager.create(spec)).result.state, 'running');
    await manager.destroy(spec.sandboxId);
  });
});
