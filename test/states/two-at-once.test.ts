import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { type Answer, type FakeStack, type Rest, startFakeStack } from '../support/fake-stack.ts';

const OPERATIONS = {
  pause: ['POST', '/pause', {}],
  resume: ['POST', '/resume', { timeout: 600 }],
  connect: ['POST', '/connect', { timeout: 600 }],
  fork: ['POST', '/fork', { count: 1, timeout: 600 }],
  snapshot: ['POST', '/snapshots', { name: 'kept' }],
  kill: ['DELETE', '', undefined],
  network: ['PUT', '/network', { denyOut: ['203.0.113.0/24'] }],
} as const satisfies Record<string, readonly [string, string, object | undefined]>;

type Operation = keyof typeof OPERATIONS;
const NAMES = Object.keys(OPERATIONS) as Operation[];

/** What each may say, whichever of the two comes first. */
const CODES: Record<Operation, readonly (string | undefined)[]> = {
  pause: [undefined, 'sandbox_paused'],
  resume: [undefined, 'sandbox_not_paused'],
  connect: [undefined],
  fork: [undefined, 'sandbox_paused'],
  snapshot: [undefined, 'sandbox_paused'],
  kill: [undefined],
  network: [undefined, 'sandbox_paused'],
};
const ENDED = ['sandbox_stopping', 'sandbox_not_found'];

function ask(stack: FakeStack, id: string, name: Operation): Promise<Answer> {
  const [method, path, body] = OPERATIONS[name];
  return stack.call(method, `/sandboxes/${id}${path}`, body);
}

/** What it may be after both have been answered. */
function possibleEnds(from: 'running' | 'paused', pair: readonly Operation[]): readonly Rest[] {
  if (pair.includes('kill')) return ['gone'];
  const ends = new Set<Rest>();
  for (const order of [pair, pair.toReversed()]) {
    let state: Rest = from;
    for (const name of order) {
      if (name === 'pause') state = 'paused';
      if (name === 'resume' || name === 'connect') state = 'running';
    }
    ends.add(state);
  }
  return [...ends];
}

describe('two calls at once for a sandbox that is', () => {
  for (const from of ['running', 'paused'] as const)
    test(from, async (t) => {
      await using stack = await startFakeStack(t);
      for (const [index, first] of NAMES.entries())
        for (const second of NAMES.slice(index))
          await t.test(`${first} and ${second}`, async () => {
            const id = await stack.create();
            if (from === 'paused') await ask(stack, id, 'pause');
            const pair = [first, second] as const;
            const answers = await Promise.all(pair.map((name) => ask(stack, id, name)));
            for (const [at, name] of pair.entries()) {
              const allowed = [...CODES[name], ...(pair.includes('kill') ? ENDED : [])];
              const { code, status, message } = answers[at] ?? assert.fail();
              assert.ok(allowed.includes(code), `${name}: ${status} ${code} ${message}`);
            }
            const state = await stack.rest(id);
            assert.ok(possibleEnds(from, pair).includes(state), state);
            if (first === second && first !== 'kill') {
              const succeeded = answers.filter(({ code }) => code === undefined).length;
              const isShared = ['connect', 'network', 'fork', 'snapshot'].includes(first);
              if (!isShared) assert.ok(succeeded <= 1, 'it happened twice');
            }
            if (state === 'running') assert.equal(await stack.remembers(id), `memory of ${id}`);
            await requireWhole(stack, answers);
            await stack.endAll();
          });
    });
});

/** Copies and snapshots that were answered are there, and nothing else is. */
async function requireWhole(stack: FakeStack, answers: readonly Answer[]): Promise<void> {
  const bodies = answers.flatMap(({ code, body }) => (code === undefined && Array.isArray(body) ? body : []));
  const copies = z.array(z.object({ sandbox: z.object({ sandboxID: z.string() }) })).parse(bodies);
  for (const { sandbox } of copies) assert.equal(await stack.rest(sandbox.sandboxID), 'running');
  const isKept = answers.some(
    ({ code, body }) => code === undefined && z.object({ snapshotID: z.string() }).safeParse(body).success,
  );
  const { body } = await stack.call('GET', '/snapshots');
  assert.equal(z.array(z.unknown()).parse(body).length, isKept ? 1 : 0);
}
