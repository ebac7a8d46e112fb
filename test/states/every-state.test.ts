import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, newSandboxId } from '@nestbox/contract';
import { gate, until } from '../../packages/host-agent/src/testing/sandbox-checks.ts';
import { type Answer, type FakeStack, type Rest, startFakeStack } from '../support/fake-stack.ts';

/** Every call of the API that concerns one sandbox and changes something. */
const OPERATIONS = {
  pause: ['POST', 'pause', {}],
  'pause without memory': ['POST', 'pause', { memory: false }],
  resume: ['POST', 'resume', { timeout: 600 }],
  connect: ['POST', 'connect', { timeout: 600 }],
  fork: ['POST', 'fork', { count: 1, timeout: 600 }],
  snapshot: ['POST', 'snapshots', {}],
  kill: ['DELETE', '', undefined],
  timeout: ['POST', 'timeout', { timeout: 600 }],
  refresh: ['POST', 'refreshes', { duration: 600 }],
  network: ['PUT', 'network', { denyOut: ['203.0.113.0/24'] }],
} as const satisfies Record<string, readonly [string, string, object | undefined]>;

type Operation = keyof typeof OPERATIONS;

/** What is answered, and what the sandbox is afterwards. */
type Expected = readonly [status: number, code: ErrorCode | undefined, after: Rest];

/** A sandbox in a state; `release` ends what is on its way, and answers how that ended. */
interface Staged {
  readonly id: string;
  readonly release?: () => Promise<Answer>;
}

interface State {
  readonly bring: (stack: FakeStack) => Promise<Staged>;
  /** Of what is on its way, when nothing comes in between. */
  readonly first?: readonly [number, ErrorCode | undefined];
  /** Of it, when the sandbox is killed meanwhile. */
  readonly killed?: readonly [number, ErrorCode | undefined];
  readonly expected: Record<Operation, Expected>;
}

const NOT_FOUND = { status: 404, code: 'sandbox_not_found' } as const;
const OK = undefined;

function everywhere(expected: Expected): Record<Operation, Expected> {
  return Object.fromEntries(Object.keys(OPERATIONS).map((name) => [name, expected])) as Record<Operation, Expected>;
}

const NOWHERE = everywhere([NOT_FOUND.status, NOT_FOUND.code, 'gone']);

const RUNNING: Record<Operation, Expected> = {
  pause: [204, OK, 'paused'],
  'pause without memory': [204, OK, 'paused'],
  resume: [409, 'sandbox_not_paused', 'running'],
  connect: [200, OK, 'running'],
  fork: [201, OK, 'running'],
  snapshot: [201, OK, 'running'],
  kill: [204, OK, 'gone'],
  timeout: [204, OK, 'running'],
  refresh: [204, OK, 'running'],
  network: [204, OK, 'running'],
};

const PAUSED: Record<Operation, Expected> = {
  pause: [409, 'sandbox_paused', 'paused'],
  'pause without memory': [409, 'sandbox_paused', 'paused'],
  resume: [201, OK, 'running'],
  connect: [201, OK, 'running'],
  fork: [409, 'sandbox_paused', 'paused'],
  snapshot: [409, 'sandbox_paused', 'paused'],
  kill: [204, OK, 'gone'],
  timeout: [404, 'sandbox_not_found', 'paused'],
  refresh: [404, 'sandbox_not_found', 'paused'],
  network: [409, 'sandbox_paused', 'paused'],
};

const RESUMING: Record<Operation, Expected> = {
  ...RUNNING,
  connect: [201, OK, 'running'],
  // These two wait for nobody: until it runs it is paused.
  timeout: [404, 'sandbox_not_found', 'running'],
  refresh: [404, 'sandbox_not_found', 'running'],
};

const ENDING: Record<Operation, Expected> = {
  ...everywhere([409, 'sandbox_stopping', 'gone']),
  kill: [404, 'sandbox_not_found', 'gone'],
  timeout: [404, 'sandbox_not_found', 'gone'],
  refresh: [404, 'sandbox_not_found', 'gone'],
};

/** Begins an operation that stays where the gate holds it. */
async function begin(
  stack: FakeStack,
  id: string,
  operation: Operation,
  held: () => boolean,
): Promise<{ readonly answer: Promise<Answer> }> {
  const answer = ask(stack, id, operation);
  await Promise.race([
    until(operation, held),
    answer.then(({ status, message }) => assert.fail(`${operation} was answered at once: ${status} ${message}`)),
  ]);
  return { answer };
}

function ask(stack: FakeStack, id: string, operation: Operation): Promise<Answer> {
  const [method, path, body] = OPERATIONS[operation];
  return stack.call(method, `/sandboxes/${id}${path === '' ? '' : `/${path}`}`, body);
}

async function pausedOne(stack: FakeStack): Promise<string> {
  const id = await stack.create();
  assert.equal((await ask(stack, id, 'pause')).status, 204);
  return id;
}

function stateAtHost(stack: FakeStack, id: string): string | undefined {
  return stack.agent.manager.list().find(({ sandboxId }) => sandboxId === id)?.state;
}

/** A sandbox with an operation on its way that the driver's `save` holds. */
async function heldInSave(stack: FakeStack, operation: Operation): Promise<Staged> {
  const id = await stack.create();
  const held = gate();
  let isHeld = false;
  Object.defineProperty(stack.testHost.failures, 'saveGate', {
    configurable: true,
    get() {
      isHeld = true;
      return held.promise;
    },
  });
  const { answer } = await begin(stack, id, operation, () => isHeld);
  return {
    id,
    async release() {
      Object.defineProperty(stack.testHost.failures, 'saveGate', { configurable: true, value: undefined });
      held.open();
      return await answer;
    },
  };
}

async function heldInResume(stack: FakeStack, operation: Operation): Promise<Staged> {
  const id = await pausedOne(stack);
  const held = gate();
  stack.testHost.failures.resumeGate = held.promise;
  const { answer } = await begin(stack, id, operation, () => stateAtHost(stack, id) === 'resuming');
  return {
    id,
    async release() {
      delete stack.testHost.failures.resumeGate;
      held.open();
      return await answer;
    },
  };
}

const STATES: Record<string, State> = {
  running: { bring: async (stack) => ({ id: await stack.create() }), expected: RUNNING },
  paused: { bring: async (stack) => ({ id: await pausedOne(stack) }), expected: PAUSED },
  'an unknown id': { bring: async () => ({ id: newSandboxId() }), expected: NOWHERE },
  'no id at all': { bring: async () => ({ id: 'no%2F..%2Fid' }), expected: NOWHERE },
  gone: {
    async bring(stack) {
      const id = await stack.create();
      await ask(stack, id, 'kill');
      return { id };
    },
    expected: NOWHERE,
  },
  starting: {
    async bring(stack) {
      stack.testHost.agent.mood = 'mute';
      const answer = stack.call('POST', '/sandboxes', { templateID: 'base', timeout: 600 });
      let id: string | undefined;
      await until('the create', () => {
        id = stack.agent.manager.list().find(({ state }) => state === 'starting')?.sandboxId;
        return id !== undefined && stack.testHost.networks.inUse.size > 0;
      });
      stack.testHost.agent.mood = '';
      return {
        id: id ?? '',
        async release() {
          await ask(stack, id ?? '', 'kill');
          return await answer;
        },
      };
    },
    first: [409, 'sandbox_stopping'],
    killed: [409, 'sandbox_stopping'],
    expected: { ...NOWHERE, kill: [204, OK, 'gone'] },
  },
  'being paused': {
    bring: (stack) => heldInSave(stack, 'pause'),
    first: [204, OK],
    killed: [409, 'sandbox_stopping'],
    // What needs to know waits for the end of the pause.
    expected: PAUSED,
  },
  'being resumed': {
    bring: (stack) => heldInResume(stack, 'resume'),
    first: [201, OK],
    killed: [409, 'sandbox_stopping'],
    expected: RESUMING,
  },
  'being connected to while it was paused': {
    bring: (stack) => heldInResume(stack, 'connect'),
    first: [201, OK],
    killed: [409, 'sandbox_stopping'],
    expected: RESUMING,
  },
  'being forked': {
    bring: (stack) => heldInSave(stack, 'fork'),
    first: [201, OK],
    killed: [201, OK],
    expected: RUNNING,
  },
  'being copied for a snapshot': {
    bring: (stack) => heldInSave(stack, 'snapshot'),
    first: [201, OK],
    killed: [201, OK],
    expected: RUNNING,
  },
  'being killed': {
    async bring(stack) {
      const id = await stack.create();
      const held = gate();
      stack.testHost.failures.destroyGate = held.promise;
      const { answer } = await begin(stack, id, 'kill', () => stateAtHost(stack, id) === 'stopping');
      return {
        id,
        async release() {
          delete stack.testHost.failures.destroyGate;
          held.open();
          return await answer;
        },
      };
    },
    first: [204, OK],
    killed: [204, OK],
    expected: ENDING,
  },
};

/** Long enough for a call that waits for nobody to be answered while another one is on its way. */
const MEANWHILE_MS = 60;

async function check(stack: FakeStack, { bring, first, killed, expected }: State, operation: Operation) {
  const { id, release } = await bring(stack);
  const asking = ask(stack, id, operation);
  if (release !== undefined) await Promise.race([asking, sleep(MEANWHILE_MS)]);
  const before = await release?.();
  const { status, code, message } = await asking;
  const [wantedStatus, wantedCode, after] = expected[operation];
  assert.deepEqual([status, code], [wantedStatus, wantedCode], message);
  if (wantedCode !== undefined) assert.match(message, /^(The|There is no) sandbox/);
  if (before !== undefined)
    assert.deepEqual([before.status, before.code], operation === 'kill' ? killed : first, before.message);
  assert.equal(await stack.rest(id), after);
  if (after === 'running')
    assert.equal(await stack.remembers(id), operation.startsWith('pause w') ? '' : `memory of ${id}`);
  await stack.endAll();
}

describe('a call of the API for a sandbox', () => {
  for (const [name, state] of Object.entries(STATES))
    test(`that is ${name}`, async (t: TestContext) => {
      await using stack = await startFakeStack(t);
      for (const operation of Object.keys(OPERATIONS) as Operation[])
        await t.test(operation, () => check(stack, state, operation));
    });
});
