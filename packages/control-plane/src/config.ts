import type { Transport } from '@connectrpc/connect';
import type { ExchangeHandler, Logger } from '@nestbox/kit';
import type { Registry } from '@nestbox/kit/metrics';
import type { AuditLimits } from './service/audit-trail.ts';
import type { StoreLocation } from './store/open-store.ts';
import type { CertificateSource } from './tls/certificate-source.ts';

/** Where a listener is to be opened. Port 0 lets the kernel choose. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Where a host's proxy is: in this process, or listening on a unix socket of this machine or an address of another one,
 * which asks for the host's token.
 */
export type ProxyAddress =
  | { readonly handler: ExchangeHandler }
  | ({ readonly token?: string } & ({ readonly socketPath: string } | ListenAddress));

/** A host agent that this control plane places sandboxes on. */
export interface HostConnection {
  /** Stable across restarts: rows of the database name it. */
  readonly id: string;
  /** What rows called it before: they are made to name `id`. */
  readonly formerIds?: readonly string[];
  /** Carries host.v1: in memory (`createRouterTransport`) or over HTTP. */
  readonly transport: Transport;
  readonly proxyAddress: ProxyAddress;
}

export interface ControlPlaneConfig {
  readonly database: StoreLocation;
  /** The first API key, `e2b_` and hexadecimal digits. Only its hash is stored. */
  readonly apiKey: string;
  /** What lets in to the routes for administration, and to every team. Without it nobody may. */
  readonly adminToken?: string;
  /** Secret that every sandbox's tokens derive from. Must stay the same for the tokens to stay valid. */
  readonly tokenSeed: string;
  readonly api: ListenAddress;
  readonly edge: ListenAddress;
  /** Base domain under which `<port>-<sandboxId>.<domain>` leads to the edge. Told to the clients when given. */
  readonly domain?: string;
  /** True: clients are told the edge's port along with `domain`, which leads there directly. */
  readonly domainLeadsToEdge?: boolean;
  /** API and sandboxes on one port, over TLS, under `domain`; beside the two listeners above. */
  readonly front?: { readonly address: ListenAddress; readonly certificate: CertificateSource };
  readonly hosts: readonly HostConnection[];
  readonly logger: Logger;
  /** Where numbers for Prometheus go. None are kept when it is not given. */
  readonly metrics?: Registry;
  /** How long after this server died another one on its database takes over. 10 seconds when not given; the same for all. */
  readonly leaseMs?: number;
  /** How long a stop waits for requests of the control API that are under way. 10 seconds when not given. */
  readonly stopTimeoutMs?: number;
  /** How much of the audit trail is kept: 90 days and 100,000 entries of a kind unless it says otherwise. */
  readonly audit?: AuditLimits;
  /** Longest time-out that a client may ask for. 24 hours when not given. */
  readonly maxTimeoutSec?: number;
}

export interface ControlPlane {
  /** `http://host:port` of the control API, without a slash at the end. */
  readonly apiUrl: string;
  /** `http://host:port` of the edge, without a slash at the end. */
  readonly edgeUrl: string;
  /** What clients take for their E2B_DOMAIN: with the port of the front, unless it is 443. Undefined without a domain. */
  readonly domain: string | undefined;
  /**
   * Takes no new connections, lets requests under way come to their end for as long as the configuration allows, and closes
   * everything. What is broken off is undone. Sandboxes go on, unless `endSandboxes` says that the hosts in this process end
   * now, and what runs there: then other servers are not left with it. Calling it again is harmless.
   */
  stop(options?: { readonly endSandboxes?: boolean }): Promise<void>;
}
