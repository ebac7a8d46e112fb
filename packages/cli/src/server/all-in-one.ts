import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createRouterTransport } from '@connectrpc/connect';
import {
  type AuditLimits,
  joinInstallation,
  type ListenAddress,
  startControlPlane,
  takeStoreLocation,
} from '@nestbox/control-plane';
import type { CertificateSource } from '@nestbox/control-plane/tls';
import { type HostDescription, startHostAgent } from '@nestbox/host-agent';
import { type Logger, type NestboxPaths, tuneForStreams } from '@nestbox/kit';
import { createMetrics, type Registry, serveMetrics } from '@nestbox/kit/metrics';
import type { HostAgentOptions } from './host-agent-options.ts';
import { makeSecrets, readOrMakeSecrets } from './secrets.ts';

/** What every all-in-one server called its host before hosts had ids of their own. */
const FORMER_HOST_ID = 'local';

/** All names below `localhost` mean the machine itself. Source: RFC 6761, section 6.3. */
export const LOCAL_DOMAIN = 'nestbox.localhost';

export interface AllInOneOptions {
  readonly paths: NestboxPaths;
  readonly logger: Logger;
  /** Port 0 lets the kernel choose. */
  readonly api: ListenAddress;
  readonly edge: ListenAddress;
  /** Base domain of sandbox host names. Undefined: one that means this machine, with the edge's port. */
  readonly domain?: string;
  /** Everything on one port over TLS, beside the two listeners above. */
  readonly tls?: TlsListener;
  readonly hostAgent?: HostAgentOptions;
  /** How long a stop waits for requests of the control API that are under way. */
  readonly stopTimeoutMs?: number;
  /** How much of the audit trail is kept. */
  readonly audit?: AuditLimits;
  /** Where Prometheus may read. Undefined: nowhere. */
  readonly metrics?: ListenAddress;
}

export interface TlsListener {
  readonly address: ListenAddress;
  readonly certificate: CertificateSource;
}

export interface AllInOneServer {
  readonly apiUrl: string;
  readonly sandboxUrl: string;
  /** What clients take for their E2B_DOMAIN. */
  readonly domain: string | undefined;
  readonly metricsUrl: string | undefined;
  readonly apiKey: string;
  /** What runs the VMs here and why; the first call on a machine may probe for seconds. */
  describeHost(signal?: AbortSignal): Promise<HostDescription>;
  /** Ends the server, and with `destroySandboxes` its sandboxes too. Calling it again is harmless. */
  stop(options: { readonly destroySandboxes: boolean }): Promise<void>;
}

/**
 * Host agent and control plane in one process, with the RPC between them and the requests to sandboxes in memory.
 * Throws NestboxError: state_dir_in_use, and what the two daemons throw. Nothing is left when it throws.
 */
export async function startAllInOne(options: AllInOneOptions): Promise<AllInOneServer> {
  const { paths, logger } = options;
  const database = takeStoreLocation(join(paths.stateDir, 'nestbox.db'), process.env);
  tuneForStreams();
  await mkdir(paths.stateDir, { recursive: true, mode: 0o711 });
  let isNewHere = false;
  const secrets = await readOrMakeSecrets(paths, async (own) => {
    isNewHere = own === undefined;
    if ('databaseUrl' in database) return await joinInstallation(database.databaseUrl, own, makeSecrets);
    return own ?? makeSecrets();
  });

  await using undo = new AsyncDisposableStack();
  let metricsUrl: string | undefined;
  let metrics: { readonly metrics?: Registry } = {};
  const metricsListening = new AsyncDisposableStack();
  undo.use(metricsListening);
  if (options.metrics !== undefined) {
    const registry = createMetrics();
    const listener = await serveMetrics(registry, options.metrics);
    metricsListening.defer(() => listener.close());
    metricsUrl = listener.url;
    metrics = { metrics: registry };
  }
  // First the host agent: it takes the lock of the state folder.
  const hostAgent = await startHostAgent({ ...options.hostAgent, ...metrics, paths, logger });
  undo.defer(() => hostAgent.stop({ destroySandboxes: false }));
  // Once on a machine this takes the seconds of a probe; without it the first creates would be refused meanwhile. A host
  // that cannot run VMs at all starts nevertheless: its creates say why.
  await hostAgent.describe().catch((error: unknown) => logger.warn({ err: error }, 'no VM can be run here yet'));
  const controlPlane = await startControlPlane({
    ...metrics,
    database,
    apiKey: secrets.apiKey,
    adminToken: secrets.adminToken,
    tokenSeed: secrets.tokenSeed,
    api: options.api,
    edge: options.edge,
    domain: options.domain ?? LOCAL_DOMAIN,
    domainLeadsToEdge: options.domain === undefined,
    ...(options.tls === undefined ? {} : { front: options.tls }),
    ...(options.stopTimeoutMs === undefined ? {} : { stopTimeoutMs: options.stopTimeoutMs }),
    ...(options.audit === undefined ? {} : { audit: options.audit }),
    hosts: [
      {
        id: hostAgent.hostId,
        // In a database of several servers they may be another one's.
        formerIds: isNewHere ? [] : [FORMER_HOST_ID],
        transport: createRouterTransport(hostAgent.routes),
        proxyAddress: { handler: hostAgent.proxy },
      },
    ],
    logger,
  });
  undo.move();

  return {
    apiUrl: controlPlane.apiUrl,
    sandboxUrl: controlPlane.edgeUrl,
    domain: controlPlane.domain,
    metricsUrl,
    apiKey: secrets.apiKey,
    describeHost: (signal) => hostAgent.describe(signal),
    async stop(stopOptions) {
      // New requests are refused first, so that none meets a host agent that is going.
      try {
        await metricsListening.disposeAsync();
        await controlPlane.stop({ endSandboxes: stopOptions.destroySandboxes });
      } finally {
        await hostAgent.stop(stopOptions);
      }
    },
  };
}
