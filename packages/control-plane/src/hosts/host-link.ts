import { type CallOptions, type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { NestboxError } from '@nestbox/contract';
import {
  type CreateSandboxRequest,
  type GetHostResponse,
  type GetSandboxMetricsResponse,
  HostService,
  type Sandbox,
  type Template,
  type WatchSandboxesResponse,
} from '@nestbox/contract/host';
import { fromRpcError } from '@nestbox/kit';
import type { HostConnection, ProxyAddress } from '../config.ts';

/** How the control plane stands with a host. Only `connected` hosts get new sandboxes. */
export type HostLinkState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'connected'; readonly host: GetHostResponse }
  | { readonly kind: 'unreachable'; readonly error: NestboxError };

/** Booting may take minutes without hardware virtualisation; the host has a shorter limit of its own. */
const CREATE_TIMEOUT_MS = 300_000;
/** A host gives a VM 10 s to go by itself. */
const DESTROY_TIMEOUT_MS = 60_000;
const QUERY_TIMEOUT_MS = 15_000;

export type NewHostSandbox = Pick<
  CreateSandboxRequest,
  'sandboxId' | 'templateId' | 'envVars' | 'accessToken' | 'allowInternetAccess'
>;

/** One host agent as seen from here: its RPC with a deadline on each call, its errors as NestboxError, its state. */
export class HostLink {
  readonly id: string;
  readonly proxyAddress: ProxyAddress;
  readonly #client: Client<typeof HostService>;
  #state: HostLinkState = { kind: 'connecting' };

  constructor(connection: HostConnection) {
    this.id = connection.id;
    this.proxyAddress = connection.proxyAddress;
    this.#client = createClient(HostService, connection.transport);
  }

  get state(): HostLinkState {
    return this.#state;
  }

  /** For the watcher of this host alone. */
  setState(state: HostLinkState): void {
    this.#state = state;
  }

  /** Throws `host_unavailable` unless the host is connected. */
  requireConnected(): void {
    if (this.#state.kind === 'connected') return;
    const why = this.#state.kind === 'unreachable' ? `: ${this.#state.error.message}` : ' yet';
    throw new NestboxError('host_unavailable', `The host ${this.id} cannot be reached${why}`);
  }

  describe(signal?: AbortSignal): Promise<GetHostResponse> {
    return this.#call((options) => this.#client.getHost({}, options), QUERY_TIMEOUT_MS, signal);
  }

  /** Resolves when the guest agent is ready. Repeating it for a running sandbox answers that sandbox. */
  async createSandbox(request: NewHostSandbox, signal?: AbortSignal): Promise<Sandbox> {
    const { sandbox } = await this.#call(
      (options) => this.#client.createSandbox(request, options),
      CREATE_TIMEOUT_MS,
      signal,
    );
    if (sandbox === undefined) throw new NestboxError('internal', `The host ${this.id} answered without a sandbox.`);
    return sandbox;
  }

  /** Resolves when the sandbox is gone, also when it was gone before. */
  async destroySandbox(sandboxId: string): Promise<void> {
    await this.#call((options) => this.#client.destroySandbox({ sandboxId }, options), DESTROY_TIMEOUT_MS);
  }

  /** Whether the host has the sandbox, in whichever state. */
  async hasSandbox(sandboxId: string, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.#client.getSandbox({ sandboxId }, callOptions(QUERY_TIMEOUT_MS, signal));
      return true;
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) return false;
      throw fromRpcError(error);
    }
  }

  async listTemplates(signal?: AbortSignal): Promise<Template[]> {
    const answer = await this.#call((options) => this.#client.listTemplates({}, options), QUERY_TIMEOUT_MS, signal);
    return answer.templates;
  }

  sampleMetrics(sandboxId: string, signal?: AbortSignal): Promise<GetSandboxMetricsResponse> {
    return this.#call((options) => this.#client.getSandboxMetrics({ sandboxId }, options), QUERY_TIMEOUT_MS, signal);
  }

  /** Ends with an error of the RPC, or with the signal. */
  watch(signal: AbortSignal): AsyncIterable<WatchSandboxesResponse> {
    return this.#client.watchSandboxes({}, { signal });
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
