import { Server as NetServer } from 'node:net';
import { cannotListen, KeyedMutex, RequestsUnderWay, STOP_TIMEOUT_MS } from '@nestbox/kit';
import { BackgroundTasks } from './background-tasks.ts';
import { type Clock, systemClock } from './clock.ts';
import type { ControlPlane, ControlPlaneConfig, ListenAddress } from './config.ts';
import { DatabaseClock } from './database-clock.ts';
import { EdgeHandler } from './edge/edge-handler.ts';
import { openFront } from './edge/front-server.ts';
import { HostProxies } from './edge/host-proxies.ts';
import { openEdge } from './edge/open-edge.ts';
import { HostRegistry } from './hosts/host-registry.ts';
import { apiBehindFront } from './http/api-behind-front.ts';
import type { ApiServer } from './http/api-server.ts';
import { Authenticator } from './http/authenticate.ts';
import { createApiServer } from './http/create-api-server.ts';
import { listedSandboxText } from './http/sandbox-views.ts';
import { LEASE_TTL_MS, Leases } from './leases.ts';
import { boundUrl } from './listen-url.ts';
import { expireSandboxes } from './reconcile/expire-sandboxes.ts';
import { Reaper } from './reconcile/reaper.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { AbandonedSweep } from './reconcile/sweep-abandoned.ts';
import { watchHost } from './reconcile/watch-host.ts';
import { AccessTokens } from './service/access-tokens.ts';
import { ApiKeys, putConfiguredKey } from './service/api-keys.ts';
import { AuditTrail, DEFAULT_AUDIT_LIMITS } from './service/audit-trail.ts';
import { endOwnSandboxes } from './service/end-own-sandboxes.ts';
import { LastCalls } from './service/last-calls.ts';
import { observeState } from './service/observe-state.ts';
import { requireOwnDatabase } from './service/own-database.ts';
import { SandboxRoutes } from './service/sandbox-routes.ts';
import { SandboxTransitions } from './service/sandbox-transitions.ts';
import type { ServiceContext } from './service/service-context.ts';
import { sampleTeams } from './service/team-metrics.ts';
import { DEFAULT_MAX_TIMEOUT_SEC } from './service/timeout-range.ts';
import { wakeSandbox } from './service/wake-sandbox.ts';
import { WarmIds } from './service/warm-ids.ts';
import { isShared } from './store/dialect.ts';
import { renameHost } from './store/host-repository.ts';
import { openStore } from './store/open-store.ts';
import { SandboxLists } from './store/sandbox-lists.ts';
import { getDefaultTeam } from './store/team-repository.ts';
import { watchCertificate } from './tls/certificate-source.ts';
import { Turns } from './turns.ts';

/** How long the start waits for hosts; those that come later are taken in when they come. */
const HOST_WAIT_MS = 2000;
/** How often a server looks whether another one on its database has set an end. */
const OTHERS_ENDS_MS = 1000;

/**
 * Opens the database, takes in what the hosts have, and opens control API and edge. Rejects with NestboxError and
 * leaves nothing open then. `testClock` is for tests.
 */
export async function startControlPlane(config: ControlPlaneConfig, testClock?: Clock): Promise<ControlPlane> {
  const { logger } = config;
  await using stack = new AsyncDisposableStack();
  const db = await openStore(config.database);
  stack.defer(() => db.destroy());
  if ('databaseUrl' in config.database) await requireOwnDatabase(db, config.tokenSeed);
  for (const { id, formerIds = [] } of config.hosts) await renameHost(db, formerIds, id);
  const databaseClock = new DatabaseClock();
  const clock = testClock ?? (isShared(db) ? databaseClock : systemClock);
  const leases = new Leases({
    db,
    logger,
    ttlMs: config.leaseMs,
    hosts: () => [...hosts].map(({ id, isReached }) => ({ id, reaches: isReached })),
    onGained: (hostId) => {
      const link = hosts.find(hostId);
      if (link !== undefined) reconciler.takeOver(link);
      reaper.wake();
    },
    onRenewed: () => sweep.run(),
    onTime: (databaseMs, askedAtMs, answeredAtMs) => databaseClock.set(databaseMs, askedAtMs, answeredAtMs),
  });
  const hosts: HostRegistry = new HostRegistry(config.hosts, clock, () => leases.requireAlive());
  // What is under way ends first.
  stack.use(leases);
  const tasks = new BackgroundTasks(logger);
  stack.defer(() => tasks.drain());
  const stopping = new AbortController();

  let publicDomain = config.domain;
  const defaultTeam = await getDefaultTeam(db);
  const context: ServiceContext = {
    db,
    lists: new SandboxLists(db, listedSandboxText),
    hosts,
    leases,
    tokens: new AccessTokens(config.tokenSeed),
    keys: new ApiKeys({ db, clock, logger, isSoleWriter: !isShared(db) }),
    audit: new AuditTrail({ db, clock, logger, limits: config.audit ?? DEFAULT_AUDIT_LIMITS }),
    routes: new SandboxRoutes(db, clock),
    calls: new LastCalls(clock),
    warmIds: new WarmIds(),
    clock,
    logger,
    tasks,
    endings: new KeyedMutex(),
    transitions: new SandboxTransitions(),
    turns: new Turns({
      db,
      logger,
      serverId: leases.serverId,
      ttlMs: config.leaseMs ?? LEASE_TTL_MS,
      stopping: stopping.signal,
    }),
    // Known when all listeners have their ports, and asked for by requests alone, which come later.
    get domain() {
      return publicDomain;
    },
    defaultTeamId: defaultTeam.id,
    maxTimeoutSec: config.maxTimeoutSec ?? DEFAULT_MAX_TIMEOUT_SEC,
    endChanged: () => reaper.wake(),
    stopping: stopping.signal,
  };
  const reaper: Reaper = new Reaper(expireSandboxes(context), clock, tasks, logger);
  if (!(await putConfiguredKey(db, defaultTeam.id, config.apiKey, clock.now())))
    logger.warn('The key of the configuration was revoked; configure another one');
  const reconciler = new Reconciler(context);
  const sweep = new AbandonedSweep(context);
  await leases.begin();
  for (const { id, isOwn } of hosts) if (isOwn) await leases.requireOwn(id);

  const loops: Promise<void>[] = [];
  stack.defer(async () => {
    stopping.abort();
    await Promise.all(loops);
  });
  await takeInHosts(context, reconciler, loops, stopping.signal);
  if (isShared(db)) loops.push(lookEachSecond(reaper, stopping.signal));
  loops.push(
    reaper.run(stopping.signal),
    context.keys.run(stopping.signal),
    context.audit.run(stopping.signal),
    sampleTeams(context, stopping.signal),
  );

  const proxies = new HostProxies(config.hosts, (hostId, error) =>
    logger.warn({ err: error, hostId }, "A host's proxy did not serve a request"),
  );
  stack.defer(() => proxies.close());
  const { routes, tokens } = context;
  const edgeHandler = new EdgeHandler(
    { routes, tokens, proxies, wake: (sandboxId, port) => wakeSandbox(context, sandboxId, port) },
    logger,
  );
  const edge = await listen('sandbox edge', config.edge, () => openEdge(config.edge, edgeHandler));
  stack.defer(() => edge.close());
  if (config.metrics !== undefined) observeState(context, config.metrics);
  const requests = new RequestsUnderWay();
  const api = createApiServer(context, new Authenticator(context, config.adminToken), requests, config.metrics);
  stack.defer(() => api.close());
  await listen('control API', config.api, () => api.listen({ host: config.api.host, port: config.api.port }));
  if (config.domain !== undefined && config.domainLeadsToEdge === true)
    publicDomain = `${config.domain}:${new URL(edge.url).port}`;
  const drains = [() => edge.drain(), () => drainApi(api, requests, config.stopTimeoutMs ?? STOP_TIMEOUT_MS)];
  if (config.front !== undefined && config.domain !== undefined) {
    const { address, certificate } = config.front;
    const domain = config.domain;
    const pair = await certificate.load();
    const front = await listen('TLS listener', address, () =>
      openFront({ address, domain, certificate: pair, edge: edgeHandler, api: apiBehindFront(api) }),
    );
    stack.defer(() => front.close());
    drains.unshift(async () => front.refuseNew());
    loops.push(watchCertificate(certificate, pair, (next) => front.useCertificate(next), logger, stopping.signal));
    publicDomain = front.port === 443 ? domain : `${domain}:${front.port}`;
  }

  const open = stack.move();
  let stopped: Promise<void> | undefined;
  return {
    apiUrl: boundUrl(api.server),
    edgeUrl: edge.url,
    domain: publicDomain,
    stop: ({ endSandboxes = false } = {}) => {
      stopped ??= Promise.all(drains.map((drain) => drain()))
        .then(() => (endSandboxes ? endOwnSandboxes(context) : undefined))
        .then(() => open.disposeAsync());
      return stopped;
    },
  };
}

/** Begins to watch every host, and waits a moment for their first answers, so that the server starts complete. */
async function takeInHosts(
  context: ServiceContext,
  reconciler: Reconciler,
  loops: Promise<void>[],
  signal: AbortSignal,
): Promise<void> {
  const { clock, logger } = context;
  const firstResults = [...context.hosts].map((link) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    loops.push(watchHost({ link, reconciler, clock, logger }, signal, resolve));
    return promise;
  });
  const waited = new AbortController();
  await Promise.race([Promise.all(firstResults), clock.sleep(HOST_WAIT_MS, waited.signal)]);
  waited.abort();
}

/** Ends may be set by other servers, too. */
async function lookEachSecond(reaper: Reaper, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await systemClock.sleep(OTHERS_ENDS_MS, signal);
    reaper.wake();
  }
}

/** Takes no new connections and waits for what is under way; answers say from now on that their connections end. */
async function drainApi({ server }: ApiServer, requests: RequestsUnderWay, timeoutMs: number): Promise<void> {
  // Not `server.close()`, which cuts kept-alive connections: a request that is on its way on one would be lost.
  NetServer.prototype.close.call(server);
  await requests.ended(timeoutMs);
}

async function listen<T>(what: string, address: ListenAddress, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (cause) {
    throw cannotListen(what, address, cause);
  }
}
