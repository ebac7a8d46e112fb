import type { MessageInitShape } from '@bufbuild/protobuf';
import { type CallOptions, type Client, createClient } from '@connectrpc/connect';
import { type EgressSettings, NestboxError } from '@nestbox/contract';
import {
  type CreateSandboxRequest,
  type ForkSandboxRequestSchema,
  type ForkSandboxResponse,
  type GetDiskUsageResponse,
  type GetHostResponse,
  type GetSandboxActivityResponse,
  type GetSandboxLogsRequestSchema,
  type GetSandboxLogsResponse_LogLine,
  type GetSandboxMetricsResponse,
  type GetSandboxTraceResponse,
  HostService,
  type ListSandboxMetricsRequest,
  type PauseSandboxRequest,
  type ResumeSandboxRequest,
  type Sandbox,
  type SandboxOrigin,
  type SnapshotSandboxRequest,
  type Stage,
  type Template,
  type WatchSandboxesResponse,
} from '@nestbox/contract/host';
import { fromRpcError } from '@nestbox/kit';
import type { Clock } from '../clock.ts';
import type { HostConnection, ProxyAddress } from '../config.ts';
import { SandboxTroubles } from './sandbox-troubles.ts';

/** How the control plane stands with a host. Only `connected` hosts get new sandboxes, and of them those that scheduler/takes-new.ts lets through. */
export type HostLinkState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'connected'; readonly host: GetHostResponse }
  | { readonly kind: 'unreachable'; readonly error: NestboxError };

/** Booting may take minutes without hardware virtualisation; the host has a shorter limit of its own. */
const CREATE_TIMEOUT_MS = 300_000;
/** Of what writes or reads a whole memory, on a slow disk; a resume may be a boot. */
const MEMORY_TIMEOUT_MS = 300_000;
/** A host gives a VM 10 s to go by itself. */
const DESTROY_TIMEOUT_MS = 60_000;
const QUERY_TIMEOUT_MS = 15_000;

export type NewHostSandbox = Pick<
  CreateSandboxRequest,
  'sandboxId' | 'templateId' | 'envVars' | 'accessToken' | 'allowInternetAccess' | 'allowOut' | 'denyOut' | 'notes'
>;

/** Where a sandbox may connect to, in the words of the RPC. */
export function toHostEgress({ allowInternetAccess, allowOut, denyOut }: EgressSettings) {
  return { allowInternetAccess, allowOut: [...allowOut], denyOut: [...denyOut] };
}

type Request<T> = Omit<T, '$typeName' | '$unknown'>;

/** A sandbox as its host tells of it, and where the time went. */
export interface HostSandbox {
  readonly sandbox: Sandbox;
  readonly stages: readonly Stage[];
}

/** One host agent as seen from here: its RPC with a deadline on each call, its errors as NestboxError, its state. */
export class HostLink {
  readonly id: string;
  readonly proxyAddress: ProxyAddress;
  /** For the watcher of this host to fill. */
  readonly troubles = new SandboxTroubles();
  readonly #client: Client<typeof HostService>;
  readonly #mayChange: () => void;
  readonly #clock: Pick<Clock, 'now'>;
  #state: HostLinkState = { kind: 'connecting' };
  #stateChangedAtMs: number;
  #lastDescription: GetHostResponse | undefined;

  /** `mayChange` throws when this server must not ask a host to change anything now. */
  constructor(connection: HostConnection, clock: Pick<Clock, 'now'>, mayChange: () => void) {
    this.id = connection.id;
    this.#clock = clock;
    this.#stateChangedAtMs = clock.now();
    this.#mayChange = mayChange;
    this.proxyAddress = connection.proxyAddress;
    this.#client = createClient(HostService, connection.transport);
  }

  get state(): HostLinkState {
    return this.#state;
  }

  /** For the watcher of this host alone. */
  setState(state: HostLinkState): void {
    if (state.kind !== this.#state.kind) this.#stateChangedAtMs = this.#clock.now();
    this.#state = state;
  }

  /** When it became what it is; milliseconds since the Unix epoch. */
  get stateChangedAtMs(): number {
    return this.#stateChangedAtMs;
  }

  /** What it said of itself when it was last asked. */
  get lastDescription(): GetHostResponse | undefined {
    return this.#lastDescription;
  }

  /** Whether it is in this process. */
  get isOwn(): boolean {
    return 'handler' in this.proxyAddress;
  }

  /** Whether it can be asked now. */
  get isReached(): boolean {
    return this.#state.kind === 'connected' || this.isOwn;
  }

  /** Throws `host_unavailable` unless the host is connected. */
  requireConnected(): void {
    if (this.#state.kind === 'connected') return;
    const why = this.#state.kind === 'unreachable' ? `: ${this.#state.error.message}` : ' yet';
    throw new NestboxError('host_unavailable', `The host ${this.id} cannot be reached${why}`);
  }

  async describe(signal?: AbortSignal): Promise<GetHostResponse> {
    this.#lastDescription = await this.#call((options) => this.#client.getHost({}, options), QUERY_TIMEOUT_MS, signal);
    return this.#lastDescription;
  }

  /** Resolves when the guest agent is ready. Repeating it for a running sandbox answers that sandbox. */
  async createSandbox(request: NewHostSandbox, signal?: AbortSignal): Promise<HostSandbox> {
    this.#mayChange();
    const answer = await this.#call(
      (options) => this.#client.createSandbox(request, options),
      CREATE_TIMEOUT_MS,
      signal,
    );
    return this.#requireSandbox(answer);
  }

  /** Resolves when the sandbox is on disk and its VM is gone. Nobody's going away stops it half-way. */
  async pauseSandbox(request: Request<PauseSandboxRequest>): Promise<HostSandbox> {
    this.#mayChange();
    const answer = await this.#call((options) => this.#client.pauseSandbox(request, options), MEMORY_TIMEOUT_MS);
    return this.#requireSandbox(answer);
  }

  /** Resolves when the guest agent is ready again. Nobody's going away stops it half-way. */
  async resumeSandbox(request: Request<ResumeSandboxRequest>): Promise<HostSandbox> {
    this.#mayChange();
    const answer = await this.#call((options) => this.#client.resumeSandbox(request, options), MEMORY_TIMEOUT_MS);
    return this.#requireSandbox(answer);
  }

  /** Resolves with an outcome for each copy, in their order. */
  async forkSandbox(
    request: MessageInitShape<typeof ForkSandboxRequestSchema>,
    signal?: AbortSignal,
  ): Promise<ForkSandboxResponse> {
    this.#mayChange();
    return await this.#call((options) => this.#client.forkSandbox(request, options), MEMORY_TIMEOUT_MS, signal);
  }

  /** Makes a template of a running sandbox, in the place of one with the same id. */
  async snapshotSandbox(
    request: Request<SnapshotSandboxRequest>,
  ): Promise<{ readonly template: Template; readonly stages: readonly Stage[] }> {
    this.#mayChange();
    const { template, stages } = await this.#call(
      (options) => this.#client.snapshotSandbox(request, options),
      MEMORY_TIMEOUT_MS,
    );
    if (template === undefined) throw new NestboxError('internal', `The host ${this.id} answered without a template.`);
    return { template, stages };
  }

  /** Resolves when the rules hold. */
  async setEgress(sandboxId: string, egress: EgressSettings): Promise<void> {
    this.#mayChange();
    const request = { sandboxId, ...toHostEgress(egress) };
    await this.#call((options) => this.#client.setSandboxEgress(request, options), QUERY_TIMEOUT_MS);
  }

  /** Resolves when the sandbox is gone, also when it was gone before. */
  async destroySandbox(sandboxId: string): Promise<void> {
    await this.#call((options) => this.#client.destroySandbox({ sandboxId }, options), DESTROY_TIMEOUT_MS);
  }

  /** The sandbox in whichever state it is; undefined when the host does not know it. */
  async findSandbox(sandboxId: string): Promise<Sandbox | undefined> {
    return (await this.findOrigin(sandboxId))?.sandbox;
  }

  /** The sandbox with how it was asked for; undefined when the host does not know it. */
  async findOrigin(
    sandboxId: string,
  ): Promise<{ readonly sandbox: Sandbox; readonly origin: SandboxOrigin | undefined } | undefined> {
    try {
      const answer = await this.#call((options) => this.#client.getSandbox({ sandboxId }, options), QUERY_TIMEOUT_MS);
      return { ...this.#requireSandbox({ ...answer, stages: [] }), origin: answer.origin };
    } catch (error) {
      if (error instanceof NestboxError && error.code === 'sandbox_not_found') return undefined;
      throw error;
    }
  }

  /** All that it has, in whichever state. */
  async listSandboxes(signal?: AbortSignal): Promise<Sandbox[]> {
    const answer = await this.#call((options) => this.#client.listSandboxes({}, options), QUERY_TIMEOUT_MS, signal);
    return answer.sandboxes;
  }

  async listTemplates(signal?: AbortSignal): Promise<Template[]> {
    const answer = await this.#call((options) => this.#client.listTemplates({}, options), QUERY_TIMEOUT_MS, signal);
    return answer.templates;
  }

  /** False when there was none. */
  async deleteTemplate(templateId: string): Promise<boolean> {
    const request = { templateId };
    return (await this.#call((options) => this.#client.deleteTemplate(request, options), DESTROY_TIMEOUT_MS)).deleted;
  }

  getActivity(sandboxId: string, signal?: AbortSignal): Promise<GetSandboxActivityResponse> {
    return this.#call((options) => this.#client.getSandboxActivity({ sandboxId }, options), QUERY_TIMEOUT_MS, signal);
  }

  getTrace(sandboxId: string, signal?: AbortSignal): Promise<GetSandboxTraceResponse> {
    return this.#call((options) => this.#client.getSandboxTrace({ sandboxId }, options), QUERY_TIMEOUT_MS, signal);
  }

  getDiskUsage(signal?: AbortSignal): Promise<GetDiskUsageResponse> {
    return this.#call((options) => this.#client.getDiskUsage({}, options), QUERY_TIMEOUT_MS, signal);
  }

  /** Begins it. */
  async verifyDisk(): Promise<void> {
    await this.#call((options) => this.#client.verifyDisk({}, options), QUERY_TIMEOUT_MS);
  }

  /** Oldest first. */
  async listMetrics(
    request: Request<ListSandboxMetricsRequest>,
    signal?: AbortSignal,
  ): Promise<GetSandboxMetricsResponse[]> {
    return (await this.#call((options) => this.#client.listSandboxMetrics(request, options), QUERY_TIMEOUT_MS, signal))
      .samples;
  }

  /** By sandbox id; those that do not run are missing. */
  async latestMetrics(
    sandboxIds: string[],
    signal?: AbortSignal,
  ): Promise<Readonly<Record<string, GetSandboxMetricsResponse>>> {
    const request = { sandboxIds };
    return (await this.#call((options) => this.#client.getLatestMetrics(request, options), QUERY_TIMEOUT_MS, signal))
      .samples;
  }

  async getLogs(
    request: MessageInitShape<typeof GetSandboxLogsRequestSchema>,
    signal?: AbortSignal,
  ): Promise<GetSandboxLogsResponse_LogLine[]> {
    return (await this.#call((options) => this.#client.getSandboxLogs(request, options), QUERY_TIMEOUT_MS, signal))
      .lines;
  }

  /** Ends with an error of the RPC, or with the signal. */
  watch(signal: AbortSignal): AsyncIterable<WatchSandboxesResponse> {
    return this.#client.watchSandboxes({}, { signal });
  }

  #requireSandbox(answer: { readonly sandbox?: Sandbox | undefined; readonly stages: readonly Stage[] }): HostSandbox {
    const { sandbox, stages } = answer;
    if (sandbox === undefined) throw new NestboxError('internal', `The host ${this.id} answered without a sandbox.`);
    return { sandbox, stages };
  }

  async #call<T>(request: (options: CallOptions) => Promise<T>, timeoutMs: number, signal?: AbortSignal): Promise<T> {
    try {
      return await request(callOptions(timeoutMs, signal));
    } catch (error) {
      throw fromRpcError(error);
    }
  }
}

function callOptions(timeoutMs: number, signal: AbortSignal | undefined): CallOptions {
  return signal === undefined ? { timeoutMs } : { timeoutMs, signal };
}
