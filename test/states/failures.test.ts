import assert from 'node:assert/strict';
import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive } from '@nestbox/kit';
import { z } from 'zod';
import { gate, until } from '../../packages/host-agent/src/testing/sandbox-checks.ts';
import { type Answer, type FakeStack, type Rest, startFakeStack } from '../support/fake-stack.ts';

const COPYING = { pause: {}, fork: { count: 2, timeout: 600 }, snapshots: {} } as const;

async function pausedOne(stack: FakeStack): Promise<string> {
  const id = await stack.create();
  assert.equal((await stack.call('POST', `/sandboxes/${id}/pause`)).status, 204);
  return id;
}

/** Asks for something that the fake VM manager then holds in `save` or `resume`; answers what lets it go on. */
async function hold(stack: FakeStack, at: 'saveGate' | 'resumeGate', ask: () => Promise<Answer>) {
  const held = gate();
  let isHeld = false;
  Object.defineProperty(stack.testHost.failures, at, {
    configurable: true,
    get() {
      isHeld = true;
      return held.promise;
    },
  });
  const answer = ask();
  answer.catch(() => {});
  await until(`what is held in ${at}`, () => isHeld);
  return {
    answer,
    letGo() {
      Object.defineProperty(stack.testHost.failures, at, { configurable: true, value: undefined });
      held.open();
    },
  };
}

function countOf({ answered }: FakeStack, call: string): number {
  return answered.filter((name) => name === call).length;
}

async function onlySandbox(stack: FakeStack, id: string): Promise<void> {
  await until('the copies to go', () => stack.agent.manager.list().every(({ sandboxId }) => sandboxId === id));
  const listed = z.array(z.object({ sandboxID: z.string() })).parse((await stack.call('GET', '/v2/sandboxes')).body);
  assert.ok(listed.every(({ sandboxID }) => sandboxID === id));
}

describe('a VM that dies while it is frozen for', () => {
  for (const [path, body] of Object.entries(COPYING))
    test(`${path} takes its sandbox along, and the answer says so`, async (t) => {
      await using stack = await startFakeStack(t);
      const id = await stack.create();
      const vmm = (await stack.testHost.running(id)).vm.process;
      const held = await hold(stack, 'saveGate', () => stack.call('POST', `/sandboxes/${id}/${path}`, body));
      process.kill(vmm.pid, 'SIGKILL');
      // A state that was saved before its VM is gone is a good one.
      await until('the end of the VM', () => !isProcessAlive(vmm));
      held.letGo();
      const { status, code, message } = await held.answer;
      assert.deepEqual([status, code], [502, 'vm_died'], message);
      assert.equal(await stack.rest(id), 'gone');
      assert.equal((await stack.call('POST', `/sandboxes/${id}/connect`, { timeout: 60 })).code, 'sandbox_not_found');
      await stack.endAll();
    });
});

test('a VM that dies while it is resumed leaves the sandbox paused', async (t) => {
  await using stack = await startFakeStack(t);
  const id = await pausedOne(stack);
  stack.testHost.agent.mood = 'dies-on-init';
  const { status, code } = await stack.call('POST', `/sandboxes/${id}/resume`, { timeout: 600 });
  assert.deepEqual([status, code], [502, 'vm_died']);
  assert.equal(await stack.rest(id), 'paused');
  stack.testHost.agent.mood = '';
  assert.equal((await stack.call('POST', `/sandboxes/${id}/connect`, { timeout: 600 })).status, 201);
  assert.equal(await stack.remembers(id), `memory of ${id}`);
  await stack.endAll();
});

test('copies whose VMs die while they start are told each, and the source runs', async (t) => {
  await using stack = await startFakeStack(t);
  const id = await stack.create();
  stack.testHost.agent.mood = 'dies-on-init';
  const { status, body } = await stack.call('POST', `/sandboxes/${id}/fork`, { count: 2, timeout: 600 });
  assert.equal(status, 201);
  const outcomes = z.array(z.object({ error: z.object({ code: z.number(), error_code: z.string() }) })).parse(body);
  assert.deepEqual(
    outcomes.map(({ error }) => [error.code, error.error_code]),
    [
      [502, 'vm_died'],
      [502, 'vm_died'],
    ],
  );
  assert.equal(await stack.rest(id), 'running');
  await onlySandbox(stack, id);
  await stack.endAll();
});

describe('a call to the host that takes too long', () => {
  const CALL_TIMEOUT_MS = 250;
  const cases: readonly (readonly [string, 'saveGate' | 'resumeGate', 'running' | 'paused', object, Rest])[] = [
    ['pause', 'saveGate', 'running', {}, 'paused'],
    ['resume', 'resumeGate', 'paused', { timeout: 600 }, 'running'],
    ['connect', 'resumeGate', 'paused', { timeout: 600 }, 'running'],
    ['fork', 'saveGate', 'running', { count: 2, timeout: 600 }, 'running'],
    ['snapshots', 'saveGate', 'running', {}, 'running'],
  ];
  for (const [path, at, from, body, after] of cases)
    test(`${path}: 504, and what the host makes of it in the end is what the sandbox is`, async (t) => {
      let callTimeoutMs: number | undefined;
      await using stack = await startFakeStack(t, { callTimeoutMs: () => callTimeoutMs });
      const id = from === 'paused' ? await pausedOne(stack) : await stack.create();
      const held = await hold(stack, at, () => {
        callTimeoutMs = CALL_TIMEOUT_MS;
        return stack.call('POST', `/sandboxes/${id}/${path}`, body);
      });
      const { status, code, message } = await held.answer;
      assert.deepEqual([status, code], [504, 'deadline_exceeded'], message);
      callTimeoutMs = undefined;
      held.letGo();
      await until('the host', () =>
        stack.agent.manager.list().every(({ state }) => state === 'running' || state === 'paused'),
      );
      assert.equal(await stack.rest(id), after);
      await onlySandbox(stack, id);
      await stack.endAll();
    });

  test('a kill: 504, and the sandbox is gone all the same', async (t) => {
    let callTimeoutMs: number | undefined;
    await using stack = await startFakeStack(t, { callTimeoutMs: () => callTimeoutMs });
    const id = await stack.create();
    const held = gate();
    stack.testHost.failures.destroyGate = held.promise;
    callTimeoutMs = CALL_TIMEOUT_MS;
    const { status, code } = await stack.call('DELETE', `/sandboxes/${id}`);
    assert.deepEqual([status, code], [504, 'deadline_exceeded']);
    assert.equal((await stack.call('GET', `/sandboxes/${id}`)).status, 404);
    callTimeoutMs = undefined;
    held.open();
    assert.equal(await stack.rest(id), 'gone');
    await stack.endAll();
  });
});

describe('a client that goes away during', () => {
  for (const [path, body, after] of [
    ['pause', {}, 'paused'],
    ['fork', { count: 2, timeout: 600 }, 'running'],
    ['snapshots', {}, 'running'],
  ] as const)
    test(`${path} leaves a sandbox that is ${after}, and nobody's copies`, async (t) => {
      await using stack = await startFakeStack(t);
      const id = await stack.create();
      const leaving = new AbortController();
      const held = await hold(stack, 'saveGate', async () => {
        await stack.server.api(`/sandboxes/${id}/${path}`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify(body),
          signal: leaving.signal,
        });
        throw new Error('answered');
      });
      leaving.abort();
      await assert.rejects(held.answer, { name: 'AbortError' });
      // Of a fork it hears of that, and ends the copies before the host has begun with them.
      if (path === 'fork') await until('the copies to end', () => countOf(stack, 'DestroySandbox') === 2);
      held.letGo();
      assert.equal(await stack.rest(id), after);
      await onlySandbox(stack, id);
      await stack.endAll();
    });
});

describe('a paused sandbox of which', () => {
  const damages: Readonly<
    Record<string, readonly [damage: (folder: string, layer: string) => Promise<void>, boots: boolean]>
  > = {
    'the pages are cut': [(folder) => truncate(join(folder, 'pause', 'pages'), 100), true],
    'the pages are gone': [(folder) => rm(join(folder, 'pause', 'pages')), true],
    'the devices are others': [(folder) => writeFile(join(folder, 'pause', 'devices'), 'devices of nobody\n'), true],
    'the manifest is gone': [(folder) => rm(join(folder, 'pause', 'snapshot.json')), true],
    'the memory image is gone': [(folder) => rm(join(folder, 'memory')), true],
    'a layer of the disk is gone': [(folder, layer) => rm(join(folder, layer)), false],
  };
  for (const [what, [damage, boots]] of Object.entries(damages))
    test(`${what} is refused and stays paused${boots ? ', and boots from its disk' : ''}`, async (t) => {
      await using stack = await startFakeStack(t);
      const id = await pausedOne(stack);
      const { situation } = await stack.testHost.record(id);
      assert.ok(situation.state === 'paused');
      await damage(stack.testHost.layout.sandboxDir(id), situation.machine.layers[0] ?? '');
      for (const path of ['resume', 'connect']) {
        const { status, code, message } = await stack.call('POST', `/sandboxes/${id}/${path}`, { timeout: 600 });
        assert.deepEqual([status, code], [500, 'snapshot_damaged'], message);
        assert.equal((await stack.call('GET', `/sandboxes/${id}`)).status, 200);
        assert.equal(stack.agent.manager.get(id).state, 'paused');
      }
      const reboot = await stack.call('POST', `/sandboxes/${id}/connect`, { timeout: 600, memory: false });
      assert.equal(reboot.status, boots ? 201 : 500, reboot.message);
      if (boots) assert.equal(await stack.rest(id), 'running');
      await stack.endAll();
    });
});

async function snapshotOf(stack: FakeStack, id: string): Promise<string> {
  const { body } = await stack.call('POST', `/sandboxes/${id}/snapshots`, { name: 'kept' });
  return z.object({ snapshotID: z.string() }).parse(body).snapshotID;
}

test('a snapshot that is deleted under a paused sandbox takes nothing from it', async (t: TestContext) => {
  await using stack = await startFakeStack(t);
  const source = await stack.create();
  const snapshotId = await snapshotOf(stack, source);
  const id = await stack.create({ templateID: snapshotId });
  assert.equal((await stack.call('POST', `/sandboxes/${id}/pause`)).status, 204);
  assert.equal((await stack.call('DELETE', `/sandboxes/${source}`)).status, 204);
  assert.equal((await stack.call('DELETE', '/templates/kept')).status, 204);
  const gone = await stack.call('POST', '/sandboxes', { templateID: snapshotId });
  assert.deepEqual([gone.status, gone.code], [404, 'template_not_found']);
  const twice = await stack.call('DELETE', '/templates/kept');
  assert.deepEqual([twice.status, twice.code], [404, 'template_not_found']);
  for (const memory of [true, false]) {
    assert.equal((await stack.call('POST', `/sandboxes/${id}/connect`, { timeout: 600, memory })).status, 201);
    assert.equal(await stack.rest(id), 'running');
    assert.equal((await stack.call('POST', `/sandboxes/${id}/pause`)).status, 204);
  }
  await stack.endAll();
});

test('a template that is taken away altogether under a paused sandbox takes nothing from it', async (t) => {
  await using stack = await startFakeStack(t);
  const id = await pausedOne(stack);
  const [template] = await stack.agent.manager.templates();
  await rm(stack.testHost.layout.templateDir(template?.templateId ?? ''), { recursive: true });
  assert.equal((await stack.call('POST', `/sandboxes/${id}/resume`, { timeout: 600 })).status, 201);
  assert.equal(await stack.remembers(id), `memory of ${id}`);
  const { status, code } = await stack.call('POST', '/sandboxes', { templateID: 'base' });
  assert.deepEqual([status, code], [404, 'template_not_found']);
  assert.equal((await stack.call('DELETE', `/sandboxes/${id}`)).status, 204);
  assert.equal(await stack.rest(id), 'gone');
});

test('a host that keeps as many as it may says so, and the sandbox runs', async (t) => {
  await using stack = await startFakeStack(t);
  const id = await stack.create();
  stack.testHost.failures.saveError = new NestboxError('host_disk_full', 'there is no room');
  for (const [path, body] of Object.entries(COPYING)) {
    const { status, code, message } = await stack.call('POST', `/sandboxes/${id}/${path}`, body);
    assert.deepEqual([status, code, message], [507, 'host_disk_full', 'there is no room']);
    assert.equal(await stack.rest(id), 'running');
  }
  await stack.endAll();
});
