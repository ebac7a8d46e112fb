import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { type DiskFaults, makeDiskFaults } from '../support/disk-faults.ts';
import { type Answer, type FakeStack, type Rest, startFakeStack } from '../support/fake-stack.ts';

/** An operation that is tried on a sandbox, with the disk failing at each of its writes in turn. */
interface Attempt {
  /** What the sandbox is before, and after an attempt that failed. */
  readonly from: 'running' | 'paused';
  readonly to: Rest;
  /** One that succeeds begins with an empty memory. */
  readonly forgets?: true;
  ask(stack: FakeStack, id: string): Promise<Answer>;
  /** Brings it back to where it was after one that succeeded. */
  undo?(stack: FakeStack, id: string, answer: Answer): Promise<unknown>;
}

const post = (path: string, body: object) => (stack: FakeStack, id: string) =>
  stack.call('POST', `/sandboxes/${id}/${path}`, body);
const pause = post('pause', {});
const resume = post('resume', { timeout: 600 });

const forked = z.array(
  z.union([
    z.object({ sandbox: z.object({ sandboxID: z.string() }) }),
    z.object({ error: z.object({ error_code: z.string() }) }),
  ]),
);

const ATTEMPTS: Record<string, Attempt> = {
  'a pause': { from: 'running', to: 'paused', ask: pause, undo: resume },
  'a pause without memory': {
    from: 'running',
    to: 'paused',
    forgets: true,
    ask: post('pause', { memory: false }),
    undo: resume,
  },
  'a resume': { from: 'paused', to: 'running', ask: resume, undo: pause },
  'a boot from the disk': {
    from: 'paused',
    to: 'running',
    forgets: true,
    ask: post('connect', { timeout: 600, memory: false }),
    undo: pause,
  },
  'a fork': {
    from: 'running',
    to: 'running',
    ask: post('fork', { count: 1, timeout: 600 }),
    async undo(stack, _id, { body }) {
      for (const outcome of forked.parse(body))
        if ('sandbox' in outcome) await stack.call('DELETE', `/sandboxes/${outcome.sandbox.sandboxID}`);
    },
  },
  'a snapshot': {
    from: 'running',
    to: 'running',
    ask: post('snapshots', { name: 'kept' }),
    undo: (stack) => stack.call('DELETE', '/templates/kept'),
  },
  'a change of the network': {
    from: 'running',
    to: 'running',
    ask: (stack, id) => stack.call('PUT', `/sandboxes/${id}/network`, { denyOut: ['203.0.113.0/24'] }),
  },
};

/** What of the answer is a failure: of a fork also that of a copy. */
function codesOf({ code, body }: Answer): readonly string[] {
  if (code !== undefined) return [code];
  const copies = forked.safeParse(body).data ?? [];
  return copies.flatMap((copy) => ('error' in copy ? [copy.error.error_code] : []));
}

async function layersOf(stack: FakeStack, id: string): Promise<number> {
  const { situation } = await stack.testHost.record(id);
  return 'machine' in situation ? situation.machine.layers.length : 0;
}

/** More writes than any operation has. */
const MAX_WRITES = 200;

async function failEachWrite(
  stack: FakeStack,
  disk: DiskFaults,
  { from, to, forgets, ask, undo }: Attempt,
  fault: { readonly errno: 'ENOSPC' | 'EIO'; readonly stays: boolean },
): Promise<number> {
  const wanted = fault.errno === 'ENOSPC' ? 'host_disk_full' : 'internal';
  const bring = async () => {
    const id = await stack.create();
    if (from === 'paused') assert.equal((await pause(stack, id)).status, 204);
    return { id, layers: await layersOf(stack, id) };
  };
  let { id, layers } = await bring();
  const templates = readdirSync(stack.testHost.layout.templatesDir);
  for (let write = 1; write < MAX_WRITES; write++) {
    disk.breakAt(write, fault.errno, fault.stays);
    const answer = await ask(stack, id);
    const state = await stack.rest(id);
    const failed = disk.mend();
    const told = `write ${write} (${failed.join(', ') || 'none'}): ${answer.status} ${codesOf(answer)} ${answer.message}`;
    const codes = codesOf(answer);
    if (process.env.SHOW) console.error(told);
    assert.deepEqual([...new Set(codes)], codes.length === 0 ? [] : [wanted], told);
    const isFailure = answer.code !== undefined;
    assert.equal(state, isFailure ? from : to, told);
    if (state === 'running' && !forgets) assert.equal(await stack.remembers(id), `memory of ${id}`, told);
    if (isFailure) {
      assert.notEqual(failed.length, 0, told);
      assert.deepEqual(readdirSync(stack.testHost.layout.templatesDir), templates, told);
      // One that was copied before it failed has a layer more, and the next attempt another number of writes.
      if ((await layersOf(stack, id)) !== layers) {
        await stack.endAll();
        ({ id, layers } = await bring());
      }
    } else if (failed.length === 0) {
      await stack.endAll();
      return write - 1;
    } else {
      await undo?.(stack, id, answer);
      assert.equal(await stack.rest(id), from, told);
      ({ layers } = { layers: await layersOf(stack, id) });
    }
  }
  throw new Error(`more than ${MAX_WRITES} writes`);
}

describe('a disk that fails at any one write of', () => {
  for (const [name, attempt] of Object.entries(ATTEMPTS))
    test(name, async (t) => {
      await using stack = await startFakeStack(t);
      const disk = await makeDiskFaults(t, stack.testHost.paths.stateDir);
      for (const fault of [
        { errno: 'ENOSPC', stays: true },
        { errno: 'EIO', stays: false },
      ] as const)
        await t.test(`${fault.errno}, ${fault.stays ? 'until there is room' : 'once'}`, async () => {
          const writes = await failEachWrite(stack, disk, attempt, fault);
          assert.ok(writes > 0, 'it writes nothing at all');
        });
    });
});
