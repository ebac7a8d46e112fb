import { setTimeout as delay } from 'node:timers/promises';
import { isOpen, newSandboxId, OPEN_EGRESS, parseEgressRules } from '@nestbox/contract';
import type { Template } from '../storage/template-store.ts';
import type { BootGate } from './boot-gate.ts';
import { initialise } from './bring-up-agent.ts';
import { removeFiles } from './clean-up.ts';
import { createMachine } from './create-sandbox.ts';
import { hasCapacity } from './host-limits.ts';
import type { RunningVm } from './lifecycle.ts';
import type { SandboxIdentity } from './live-sandbox.ts';
import type { SandboxInfo } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { abandonMachine } from './start-machine.ts';
import { guestSettings, type TemplateSnapshots } from './template-snapshots.ts';
import { Trace } from './trace.ts';
import type { WarmOrder } from './warm-order.ts';
import { WarmTurns } from './warm-turns.ts';
import { recordRunning } from './write-record.ts';

interface WarmVm {
  readonly identity: SandboxIdentity;
  /** Tells a template from one that has taken its place. */
  readonly templateCreatedAtMs: number;
  readonly vm: RunningVm;
  readonly stopWatching: () => void;
}

interface Turn {
  readonly order: WarmOrder;
  readonly template: Template;
}

export interface WarmPoolParts {
  readonly context: SandboxContext;
  readonly gate: BootGate;
  readonly snapshots: TemplateSnapshots;
  readonly orders: readonly WarmOrder[];
  /** The sandboxes that are there beside. */
  readonly present: () => Iterable<Pick<SandboxInfo, 'memoryMib' | 'state'>>;
  readonly stopping: AbortSignal;
}

/** Work of users has been over for so long before a VM is made ahead. */
const QUIET_MS = 150;
const FIRST_COMMAND_TIMEOUT_MS = 60_000;
const CLAIM_REHEARSALS = 2;
const CLAIM_TIMEOUT_MS = 30_000;

/**
 * Restored VMs that have run a command already and wait for a create. Each has the id that its sandbox will have, so that
 * whoever asks for a sandbox under that id gets it. They end with this host agent, and before a user is refused for want of room.
 */
export class WarmPool {
  readonly #parts: WarmPoolParts;
  readonly #context: SandboxContext;
  readonly #turns: WarmTurns;
  readonly #stopping: AbortSignal;
  readonly #ready = new Map<string, WarmVm>();
  #filling: Promise<void> | undefined;
  /** Grows when something changed, which a filling may have looked at before. */
  #changes = 0;
  /** Ends the wait for a turn that is put off. */
  #wake = () => {};

  constructor(parts: WarmPoolParts) {
    this.#parts = parts;
    this.#context = parts.context;
    this.#turns = new WarmTurns(parts.orders);
    this.#stopping = parts.stopping;
  }

  /** Begins to fill up, in the background. To be called whenever there may be room, or one fewer waits. */
  fill(): void {
    if (this.#turns.isEmpty || this.#stopping.aborted) return;
    this.#changes++;
    this.#wake();
    this.#filling ??= this.#fillUp().finally(() => {
      this.#filling = undefined;
    });
  }

  ids(templateId: string): readonly string[] {
    return [...this.#ready.values()]
      .filter(({ identity }) => identity.templateId === templateId)
      .map(({ identity }) => identity.spec.sandboxId);
  }

  /** What they take, for the sum of the host's memory. */
  sizes(): readonly { readonly memoryMib: number; readonly state: 'running' }[] {
    return [...this.#ready.values()].map(({ identity }) => ({ memoryMib: identity.memoryMib, state: 'running' }));
  }

  hasId(sandboxId: string): boolean {
    return this.#ready.has(sandboxId);
  }

  /**
   * Gives the VM that waits under the sandbox's id the sandbox's settings. Undefined when it is of no use: it is of another
   * template, or its guest does not take them. Then it is gone.
   */
  async claim(identity: SandboxIdentity, template: Template, trace: Trace): Promise<RunningVm | undefined> {
    const { sandboxId } = identity.spec;
    const warm = this.#take(sandboxId);
    if (warm === undefined) return undefined;
    try {
      if (isOf(warm, template)) return await this.#settle(warm, identity, trace);
      await this.#end(warm);
    } catch (error) {
      this.#context.logger.warn({ err: error, sandboxId }, 'a VM that waited is of no use; another is started');
    } finally {
      this.fill();
    }
    return undefined;
  }

  async #settle(warm: WarmVm, identity: SandboxIdentity, trace: Trace): Promise<RunningVm> {
    const { sandboxId, accessToken } = identity.spec;
    const egress = parseEgressRules(identity.spec);
    const context = this.#context;
    await using undo = new AsyncDisposableStack();
    undo.defer(() => this.#end(warm));
    if (!isOpen(egress))
      await trace.measure('egress', () => context.networks.setEgress(warm.vm.slot, sandboxId, egress));
    const { vm } = warm;
    // By the connection that is there: a new one is much work for an emulated guest.
    vm.guest.giveToken(accessToken);
    const limit = AbortSignal.timeout(CLAIM_TIMEOUT_MS);
    await trace.measure('init', () => initialise(identity, vm.guest, limit));
    await trace.measure('record', () => recordRunning(context, identity, vm));
    undo.move();
    return vm;
  }

  /** Ends one for the room that it takes. False when there is none. */
  async evict(): Promise<boolean> {
    const [first] = this.#ready.keys();
    const warm = first === undefined ? undefined : this.#take(first);
    if (warm === undefined) return false;
    await this.#end(warm);
    return true;
  }

  /** Ends those of a template that is not there any more, or not as it was. */
  async endOf(templateId: string, except?: Template): Promise<void> {
    const gone = [...this.#ready.values()].filter(
      (warm) => warm.identity.templateId === templateId && (except === undefined || !isOf(warm, except)),
    );
    for (const { identity } of gone) {
      const warm = this.#take(identity.spec.sandboxId);
      if (warm !== undefined) await this.#end(warm);
    }
  }

  async close(): Promise<void> {
    await this.#filling;
    await Promise.all([...this.#ready.keys()].map(() => this.evict()));
  }

  #take(sandboxId: string): WarmVm | undefined {
    const warm = this.#ready.get(sandboxId);
    this.#ready.delete(sandboxId);
    warm?.stopWatching();
    return warm;
  }

  async #end({ identity, vm }: WarmVm): Promise<void> {
    const { sandboxId } = identity.spec;
    await abandonMachine(this.#context, sandboxId, vm);
    await removeFiles(this.#context, sandboxId);
  }

  async #fillUp(): Promise<void> {
    while (!this.#stopping.aborted) {
      const seen = this.#changes;
      const next = await this.#nextTurn();
      if (next !== undefined) await this.#carryOut(next);
      else if (seen === this.#changes) {
        const putOffMs = this.#turns.putOffMs(performance.now());
        if (putOffMs === undefined) return;
        await this.#sleep(putOffMs);
      }
    }
  }

  /** The order whose turn it is, with its template. One that cannot be carried out is put off. */
  async #nextTurn(): Promise<Turn | undefined> {
    const wanted: (Turn & { readonly waiting: number })[] = [];
    for (const order of this.#turns.open(performance.now())) {
      try {
        const template = await this.#context.templates.get(order.templateId);
        await this.endOf(template.templateId, template);
        const waiting = this.ids(template.templateId).length;
        if (waiting < order.count && this.#hasRoom(template.memoryMib)) wanted.push({ order, template, waiting });
      } catch (error) {
        this.#putOff(order, error);
      }
    }
    return this.#turns.fairest(wanted);
  }

  async #carryOut({ order, template }: Turn): Promise<void> {
    try {
      await this.#parts.gate.whenQuiet(QUIET_MS, this.#stopping);
      await this.#make(template);
    } catch (error) {
      this.#putOff(order, error);
      return;
    }
    const { templateId } = order;
    if (this.#turns.succeeded(order, performance.now()))
      this.#context.logger.info({ templateId }, 'VMs of this template are made ahead again');
  }

  #putOff(order: WarmOrder, error: unknown): void {
    if (this.#stopping.aborted) return;
    const { templateId } = order;
    const { isFirst, retryMs } = this.#turns.failed(order, performance.now());
    const fields = { err: error, templateId, retryMs };
    if (isFirst)
      this.#context.logger.warn(
        fields,
        'no VM of this template could be made ahead; it is tried again, less and less often, and creates are not affected',
      );
    else this.#context.logger.debug(fields, 'again no VM of this template could be made ahead');
  }

  async #sleep(ms: number): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    const signal = AbortSignal.any([this.#stopping, woken.signal]);
    await delay(ms, undefined, { signal, ref: false }).catch(() => undefined);
    this.#wake = () => {};
  }

  #hasRoom(memoryMib: number): boolean {
    return hasCapacity(this.#context.limits, [...this.#parts.present(), ...this.sizes()], memoryMib);
  }

  async #make(template: Template): Promise<void> {
    const context = this.#context;
    const { gate, snapshots } = this.#parts;
    const images = await context.currentImages();
    const trace = new Trace();
    const plan = await snapshots.plan(template, images, this.#stopping, trace);
    const { templateId } = template;
    const { vcpuCount, memoryMib, diskMib } = template;
    const identity: SandboxIdentity = {
      spec: { sandboxId: newSandboxId(), templateId, envVars: {}, accessToken: undefined, ...OPEN_EGRESS },
      templateId,
      vcpuCount,
      memoryMib,
      diskMib,
      guest: guestSettings(template),
      createdAtMs: Date.now(),
    };
    const signal = this.#stopping;
    const vm = await gate.run(() => createMachine(context, identity, plan, signal, trace, { recorded: false }), signal);
    // As after a create: the next ones restore it.
    if (plan.how.kind === 'boot' && template.originSandboxId === undefined) snapshots.renewInBackground(template);
    const { sandboxId } = identity.spec;
    const warm = { identity, templateCreatedAtMs: template.createdAtMs, vm, stopWatching: () => {} };
    try {
      // An emulator has nothing translated yet after a restore: the first command goes ten times the way of later ones.
      const limit = AbortSignal.any([signal, AbortSignal.timeout(FIRST_COMMAND_TIMEOUT_MS)]);
      await vm.guest.warmUp({ rounds: 1, logger: context.logger }, limit);
      // What a claim does, on the connection that it will find.
      for (let round = 0; round < CLAIM_REHEARSALS; round++) await initialise(identity, vm.guest, limit);
    } catch (error) {
      await this.#end(warm);
      throw error;
    }
    if (!this.#hasRoom(memoryMib)) {
      // A user was quicker.
      await this.#end(warm);
      return;
    }
    const stopWatching = context.driver.onExit(vm.handle, () => {
      const dead = this.#take(sandboxId);
      if (dead === undefined) return;
      this.#end(dead).catch((error: unknown) =>
        context.logger.error({ err: error, sandboxId }, 'a dead VM that waited could not be cleaned up'),
      );
      this.fill();
    });
    this.#ready.set(sandboxId, { ...warm, stopWatching });
    context.logger.info({ sandboxId, templateId }, 'a VM waits for its sandbox');
  }
}

function isOf({ identity, templateCreatedAtMs }: WarmVm, template: Template): boolean {
  return identity.templateId === template.templateId && templateCreatedAtMs === template.createdAtMs;
}
