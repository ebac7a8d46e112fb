import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Answer } from '../answer-of.ts';
import { SeededRandom } from './seeded-random.ts';
import { WalkModel } from './walk-model.ts';
import { type Move, type MoveContext, pickMove, TIMEOUT_SEC, type WalkLimits } from './walk-moves.ts';
import { type Contents, DISK_PLACES, type WalkStage } from './walk-stage.ts';

const AGREE_MS = 15_000;
const SHOWN_STEPS = 40;
/** Ends of the server, of all steps: each takes as long as many others. */
const END_SHARE = 0.02;
const ENDS_BETWEEN_CALLS = 0.3;
const INTERRUPTED_AFTER_MS = 150;
const DEFAULT_LIMITS: WalkLimits = { sandboxes: 5, copies: 3 };
const WRITE_SHARE = 0.25;
const READ_SHARE = 0.15;

const listed = z.array(z.object({ sandboxID: z.string(), state: z.string() }));
const made = z.object({ sandboxID: z.string() });
const copies = z.array(z.object({ sandbox: made }));
const snapshotList = z.array(z.object({ names: z.array(z.string()) }));

export interface WalkOptions {
  readonly stage: WalkStage;
  readonly seed: number;
  readonly walker?: string;
  /** It has the server for itself, and may end it. Default true. */
  readonly isAlone?: boolean;
  /** How many of its steps end the server. */
  readonly endShare?: number;
  /** How long at most a call goes on before the server is ended. */
  readonly interruptedAfterMs?: number;
  readonly limits?: WalkLimits;
}

/** Does things at random, and compares all that is answered and all that is there with what it knows. */
export class RandomWalk {
  readonly #stage: WalkStage;
  readonly #options: WalkOptions;
  readonly #random: SeededRandom;
  readonly #model = new WalkModel();
  readonly #walker: string;
  readonly #isAlone: boolean;
  readonly #history: string[] = [];
  #words = 0;

  constructor(options: WalkOptions) {
    const { stage, seed, walker = 'walker', isAlone = true } = options;
    this.#options = options;
    this.#stage = stage;
    this.#random = new SeededRandom(seed);
    this.#walker = walker;
    this.#isAlone = isAlone;
  }

  /** Rejects with the seed and the last steps when something is not as it has to be. */
  walk(steps: number): Promise<void> {
    return this.#told(async () => {
      for (let step = 0; step < steps; step++) await this.#step();
    });
  }

  /** Wakes everything, reads it, and ends it. */
  finish(): Promise<void> {
    return this.#told(async () => {
      for (const [id, sandbox] of this.#model.sandboxes) {
        this.#note(`at the end connect to ${id}`);
        const { status, message } = await this.#stage.call('POST', `/sandboxes/${id}/connect`, {
          timeout: TIMEOUT_SEC,
        });
        assert.equal(status, sandbox.state === 'paused' ? 201 : 200, message);
        this.#model.put(id, { ...sandbox, state: 'running' });
        await this.#requireContents(id);
      }
      for (const name of this.#model.snapshots.keys()) await this.#probe(name, []);
      for (const name of [...this.#model.snapshots.keys()]) {
        assert.equal((await this.#stage.call('DELETE', `/templates/${name}`)).status, 204, name);
        this.#model.drop(name);
      }
      for (const id of [...this.#model.sandboxes.keys()]) {
        assert.equal((await this.#stage.call('DELETE', `/sandboxes/${id}`)).status, 204, id);
        this.#model.put(id, 'gone');
      }
      await this.#agree();
    });
  }

  /** After an end of the server that the walk did not bring about. */
  agree(): Promise<void> {
    return this.#told(() => this.#agree());
  }

  get #context(): MoveContext {
    const limits = this.#options.limits ?? DEFAULT_LIMITS;
    return { stage: this.#stage, model: this.#model, random: this.#random, walker: this.#walker, limits };
  }

  #note(what: string): void {
    this.#history.push(what);
  }

  async #told(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (cause) {
      const shown = this.#history.slice(-SHOWN_STEPS).map((what) => `  ${what}`);
      const before = this.#history.length - shown.length;
      const steps = [...(before === 0 ? [] : [`  … ${before} before`]), ...shown].join('\n');
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`${this.#walker} with NESTBOX_WALK_SEED=${this.#options.seed}: ${reason}\nIts steps:\n${steps}`, {
        cause,
      });
    }
  }

  async #step(): Promise<void> {
    const running = this.#running();
    const chance = this.#random.next();
    let from = 0;
    const isNext = (share: number) => {
      from += share;
      return chance < from;
    };
    if (this.#isAlone && isNext(this.#options.endShare ?? END_SHARE))
      return this.#random.isTrue(ENDS_BETWEEN_CALLS)
        ? await this.#restart(this.#signal())
        : await this.#interrupt(pickMove(this.#context));
    if (isNext(WRITE_SHARE) && running.length > 0) return await this.#write(this.#random.pick(running));
    if (isNext(READ_SHARE) && running.length > 0) return await this.#requireContents(this.#random.pick(running));
    const move = pickMove(this.#context);
    this.#note(move.what);
    await this.#take(move, await move.ask());
    await this.#requireAgreed(move);
  }

  #running(): string[] {
    return [...this.#model.sandboxes].filter(([, { state }]) => state === 'running').map(([id]) => id);
  }

  #signal(): 'SIGTERM' | 'SIGKILL' {
    return this.#random.isTrue(0.5) ? 'SIGTERM' : 'SIGKILL';
  }

  async #write(id: string): Promise<void> {
    const sandbox = this.#model.sandboxes.get(id) ?? assert.fail();
    const { memory, disk } = sandbox.contents;
    if (this.#random.isTrue(0.5)) {
      this.#words += 1;
      const word = `word ${this.#words} of ${this.#walker}`;
      this.#note(`remember "${word}" in ${id}`);
      await this.#stage.remember(id, word);
      this.#model.put(id, { ...sandbox, contents: { memory: word, disk } });
    } else {
      const place = this.#random.below(DISK_PLACES);
      const value = 1 + this.#random.below(255);
      this.#note(`write ${value} to place ${place} of ${id}`);
      await this.#stage.write(id, place, value);
      this.#model.put(id, { ...sandbox, contents: { memory, disk: disk.with(place, value) } });
    }
  }

  async #requireContents(id: string): Promise<void> {
    this.#note(`read ${id}`);
    assert.deepEqual(await this.#stage.read(id), this.#model.sandboxes.get(id)?.contents, `contents of ${id}`);
  }

  async #restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#note(`restart by ${signal}`);
    await this.#stage.end(signal);
    await this.#stage.start();
    await this.#agree();
    for (const id of this.#running()) await this.#requireContents(id);
  }

  /** The server is ended while it works on something. */
  async #interrupt(move: Move): Promise<void> {
    const signal = this.#signal();
    const afterMs = this.#random.below(this.#options.interruptedAfterMs ?? INTERRUPTED_AFTER_MS);
    this.#note(`${move.what}, and ${signal} ${afterMs} ms after that was asked for`);
    const asking = move.ask().catch(() => undefined);
    await sleep(afterMs);
    await this.#stage.end(signal);
    const answer = await asking;
    await this.#stage.start();
    // In order, whoever had asked for something is told what has become of it.
    const isBrokenOff = answer === undefined || (signal === 'SIGTERM' && answer.status >= 500);
    this.#note(isBrokenOff ? '  which had no answer' : `  which was answered: ${answer.status}`);
    if (isBrokenOff) await this.#findOut(move);
    else await this.#take(move, answer);
    await this.#agree();
    for (const id of this.#running()) await this.#requireContents(id);
  }

  async #take(move: Move, { status, code, message, body }: Answer): Promise<void> {
    assert.deepEqual([status, code], [move.status, move.code], message);
    const { target, makes, keeps, drops } = move;
    if (target !== undefined) this.#model.put(target.sandboxId, target.after);
    if (makes !== undefined) {
      const ids = idsIn(body);
      assert.equal(ids.length, makes.count);
      for (const id of ids) this.#model.put(id, makes.sandbox);
      for (const id of ids) await this.#requireContents(id);
    }
    if (keeps !== undefined) this.#model.keep(keeps.name, keeps.contents);
    if (drops !== undefined) this.#model.drop(drops);
    if (target !== undefined && target.after !== 'gone' && target.after.state === 'running')
      await this.#requireContents(target.sandboxId);
  }

  /** Of a call that was not answered: it was carried out or it was not. */
  async #findOut({ target, makes, keeps, drops }: Move): Promise<void> {
    const { sandboxes, snapshots } = this.#model;
    let shown: Record<string, string> = {};
    await this.#eventually('control plane and disk agree', async () => {
      shown = await this.#shown();
      assert.deepEqual(await this.#recorded(shown), shown);
    });
    if (target !== undefined) {
      const { sandboxId, after } = target;
      const isDone = shown[sandboxId] === (after === 'gone' ? undefined : after.state);
      if (isDone) this.#model.put(sandboxId, after);
    }
    const unknown = Object.keys(shown).filter((id) => !sandboxes.has(id));
    assert.ok(unknown.length <= (makes?.count ?? 0), `nobody asked for ${unknown.join(', ')}`);
    if (makes !== undefined) for (const id of unknown) this.#model.put(id, makes.sandbox);
    const names = await this.#names();
    if (drops !== undefined && !names.has(drops)) this.#model.drop(drops);
    if (keeps !== undefined) {
      const before = snapshots.get(keeps.name);
      if (names.has(keeps.name)) await this.#probe(keeps.name, [keeps.contents]);
      else assert.equal(before, undefined, `the snapshot ${keeps.name} was to be replaced, and is gone`);
    }
  }

  /** Makes a sandbox of a snapshot, which has to contain what is known of it or one of the others. */
  async #probe(name: string, others: readonly Contents[]): Promise<void> {
    this.#note(`look what is in ${name}`);
    const body = { templateID: name, timeout: TIMEOUT_SEC, metadata: { walker: this.#walker } };
    const answer = await this.#stage.call('POST', '/sandboxes', body);
    assert.equal(answer.status, 201, answer.message);
    const { sandboxID } = made.parse(answer.body);
    const contents = await this.#stage.read(sandboxID);
    const known = this.#model.snapshots.get(name);
    const allowed = [...(known === undefined ? [] : [known]), ...others];
    assert.ok(
      allowed.some((one) => JSON.stringify(one) === JSON.stringify(contents)),
      `the snapshot ${name} has ${JSON.stringify(contents)}, not ${JSON.stringify(allowed)}`,
    );
    this.#model.keep(name, contents);
    assert.equal((await this.#stage.call('DELETE', `/sandboxes/${sandboxID}`)).status, 204);
  }

  /** What was answered is so at once, but for what comes later. */
  async #requireAgreed({ isLater = false }: Move): Promise<void> {
    if (!isLater) assert.deepEqual(await this.#shown(), this.#model.states());
    await this.#agree();
  }

  /** Control plane and disk come to say what is known. */
  async #agree(): Promise<void> {
    await this.#eventually('control plane and disk are as they have to be', async () => {
      const states = this.#model.states();
      assert.deepEqual(await this.#shown(), states);
      assert.deepEqual(await this.#recorded(states), states);
      assert.deepEqual(await this.#names(), new Set(this.#model.snapshots.keys()));
    });
  }

  async #eventually(what: string, check: () => Promise<void>): Promise<void> {
    for (const endsAt = performance.now() + AGREE_MS; ; await sleep(20))
      try {
        await check();
        return;
      } catch (error) {
        if (!(error instanceof assert.AssertionError)) throw error;
        if (performance.now() > endsAt) throw new Error(`not within ${AGREE_MS / 1000} s: ${what}: ${error.message}`);
      }
  }

  async #shown(): Promise<Record<string, string>> {
    const filter = new URLSearchParams({ metadata: `walker=${this.#walker}`, limit: '100' });
    const { status, body, message } = await this.#stage.call('GET', `/v2/sandboxes?${filter}`);
    assert.equal(status, 200, message);
    return Object.fromEntries(listed.parse(body).map(({ sandboxID, state }) => [sandboxID, state]));
  }

  /** All that the disk has, or what it has of these when others walk too. */
  async #recorded(states: Record<string, string>): Promise<Record<string, string>> {
    const recorded = [...(await this.#stage.recordedStates())];
    const own = this.#isAlone ? recorded : recorded.filter(([id]) => id in states);
    return Object.fromEntries(own);
  }

  async #names(): Promise<Set<string>> {
    const { status, body, message } = await this.#stage.call('GET', '/snapshots');
    assert.equal(status, 200, message);
    const names = snapshotList.parse(body).flatMap((snapshot) => snapshot.names);
    return new Set(names.map((name) => name.replace(/:default$/, '')).filter((name) => name.startsWith(this.#walker)));
  }
}

function idsIn(body: unknown): string[] {
  const one = made.safeParse(body);
  return one.success ? [one.data.sandboxID] : copies.parse(body).map(({ sandbox }) => sandbox.sandboxID);
}
