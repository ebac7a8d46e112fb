import { create } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import { type ErrorCode, NestboxError } from '@nestbox/contract';
import {
  type ForkSandboxRequest,
  type GetDiskUsageResponse_Item,
  type GetSandboxTraceResponse_Operation,
  type HostService,
  type PauseSandboxRequest,
  type ResumeSandboxRequest,
  type Sandbox,
  SandboxState,
  type SnapshotSandboxRequest,
  TemplateSchema,
} from '@nestbox/contract/host';
import { toRpcError } from '@nestbox/kit';
import type { HostDouble } from './host-double.ts';

export function hostError(code: ErrorCode, message = 'The double was told to say so.'): Error {
  return toRpcError(new NestboxError(code, message));
}

/** A gate that a call waits at, and what it fails with behind it. */
export class Gate {
  /** What calls wait for. */
  opens: Promise<void> = Promise.resolve();
  /** Thrown by calls, when set. */
  error: Error | undefined;

  /** Closes the gate; the answer opens it. */
  close(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.opens = promise;
    return resolve;
  }

  async pass(): Promise<void> {
    await this.opens;
    if (this.error !== undefined) throw this.error;
  }
}

/** The part of the double that pauses, resumes, forks and snapshots, without a disk. */
export class HostDoubleSnapshots {
  readonly #host: HostDouble;
  /** Every request, in order. */
  readonly pauses: PauseSandboxRequest[] = [];
  readonly resumes: ResumeSandboxRequest[] = [];
  readonly forks: ForkSandboxRequest[] = [];
  readonly taken: SnapshotSandboxRequest[] = [];
  readonly deleted: string[] = [];
  readonly pauseGate = new Gate();
  readonly resumeGate = new Gate();
  readonly forkGate = new Gate();
  readonly snapshotGate = new Gate();
  /** Which copies of a fork fail, by their place. */
  readonly failingCopies = new Map<number, { readonly code: string; readonly message: string }>();
  activity = { lastActivityAtMs: 0n, runningCommands: 0, openConnections: 0 };
  operations: GetSandboxTraceResponse_Operation[] = [];
  diskItems: GetDiskUsageResponse_Item[] = [];
  verifying = false;
  verifiedAtMs = 0n;

  constructor(host: HostDouble) {
    this.#host = host;
  }

  rpc(): Partial<ServiceImpl<typeof HostService>> {
    return {
      pauseSandbox: async (request) => {
        const { state } = this.#host.require(request.sandboxId);
        this.pauses.push(request);
        this.#host.keepOrigin(request);
        if (state === SandboxState.PAUSED) throw hostError('sandbox_paused');
        this.#host.setState(request.sandboxId, SandboxState.PAUSING);
        await this.#passOrReturn(this.pauseGate, request.sandboxId, state);
        const sandbox = this.#host.setState(request.sandboxId, SandboxState.PAUSED, request.memory);
        return { sandbox, stages: [{ name: 'save memory', startMs: 1, durationMs: 20 }] };
      },
      resumeSandbox: async (request) => {
        const known = this.#host.require(request.sandboxId);
        this.resumes.push(request);
        this.#host.keepOrigin(request);
        if (known.state === SandboxState.RUNNING) return { sandbox: known };
        this.#host.setState(request.sandboxId, SandboxState.RESUMING, known.pausedMemory);
        await this.#passOrReturn(this.resumeGate, request.sandboxId, known.state, known.pausedMemory);
        const sandbox = this.#host.setState(request.sandboxId, SandboxState.RUNNING);
        return { sandbox, stages: [{ name: 'restore', startMs: 0, durationMs: 30 }] };
      },
      forkSandbox: async (request, { signal }) => {
        const source = this.#requireRunning(request.sandboxId);
        this.forks.push(request);
        this.#host.changed();
        await Promise.race([this.forkGate.pass(), aborted(signal)]);
        const outcomes = request.copies.map((copy, index) => {
          const { sandboxId } = copy;
          const failure = this.failingCopies.get(index);
          if (failure !== undefined) return { outcome: { case: 'failure' as const, value: failure } };
          this.#host.keepOrigin(copy);
          const sandbox = this.#host.boot(sandboxId, source.templateId);
          this.#host.announce(sandbox);
          return { outcome: { case: 'sandbox' as const, value: sandbox } };
        });
        return { outcomes, stages: [{ name: 'freeze', startMs: 0, durationMs: 5 }] };
      },
      snapshotSandbox: async (request) => {
        const { vcpuCount, memoryMib, diskMib, envdVersion } = this.#requireRunning(request.sandboxId);
        this.taken.push(request);
        this.#host.changed();
        await this.snapshotGate.pass();
        const template = create(TemplateSchema, {
          templateId: request.templateId,
          names: request.names,
          originSandboxId: request.sandboxId,
          hasMemory: true,
          createdAtMs: BigInt(Date.now()),
          vcpuCount,
          memoryMib,
          diskMib,
          envdVersion,
        });
        this.#dropTemplate(request.templateId);
        this.#host.templates.push(template);
        return { template, stages: [{ name: 'save memory', startMs: 0, durationMs: 40 }] };
      },
      deleteTemplate: ({ templateId }) => {
        this.#host.requireOnline();
        this.deleted.push(templateId);
        return { deleted: this.#dropTemplate(templateId) };
      },
      getSandboxActivity: ({ sandboxId }) => {
        if (this.#host.require(sandboxId).state === SandboxState.PAUSED) throw hostError('sandbox_paused');
        return this.activity;
      },
      getSandboxTrace: ({ sandboxId }) => {
        this.#host.require(sandboxId);
        return { operations: this.operations };
      },
      getDiskUsage: () => {
        this.#host.requireOnline();
        const { diskItems: items, verifying, verifiedAtMs } = this;
        return { items, freeBytes: 10_000_000_000n, totalBytes: 2n ** 40n, verifying, verifiedAtMs };
      },
      verifyDisk: () => {
        this.#host.requireOnline();
        this.verifying = true;
        return {};
      },
    };
  }

  /** Behind a failure the sandbox is what it was, unless somebody destroyed it meanwhile. */
  async #passOrReturn(gate: Gate, sandboxId: string, before: SandboxState, pausedMemory = false): Promise<void> {
    try {
      await gate.pass();
    } catch (error) {
      if (this.#host.sandboxes.has(sandboxId)) this.#host.setState(sandboxId, before, pausedMemory);
      throw error;
    }
    if (!this.#host.sandboxes.has(sandboxId)) throw hostError('sandbox_not_found');
  }

  #requireRunning(sandboxId: string): Sandbox {
    const sandbox = this.#host.require(sandboxId);
    if (sandbox.state !== SandboxState.RUNNING) throw hostError('sandbox_paused');
    return sandbox;
  }

  #dropTemplate(templateId: string): boolean {
    const index = this.#host.templates.findIndex((template) => template.templateId === templateId);
    if (index >= 0) this.#host.templates.splice(index, 1);
    return index >= 0;
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('The caller went away.')), { once: true });
  });
}
