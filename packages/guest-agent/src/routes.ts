import { activityRoute } from './activity-route.ts';
import { freezeRoute, unfreezeRoute } from './cgroups/freeze-routes.ts';
import type { Freezer } from './cgroups/freezer.ts';
import type { AgentContext } from './context.ts';
import { fileRoutes } from './files/routes.ts';
import { clockRoute } from './lifecycle/clock-route.ts';
import type { HostAddresses } from './lifecycle/host-addresses.ts';
import { initRoute } from './lifecycle/init-route.ts';
import type { Lifecycle } from './lifecycle/lifecycle.ts';
import { prepareSnapshotRoute, rootFreezeRoute } from './lifecycle/snapshot-routes.ts';
import type { LogBuffer } from './logs/log-buffer.ts';
import { logsRoute } from './logs/logs-route.ts';
import { collapseMemory } from './memory/collapse.ts';
import { collectGarbage } from './memory/collect-garbage.ts';
import { MemoryPreload } from './memory/preload.ts';
import { MetricsSampler } from './metrics/metrics.ts';
import type { Processes } from './process/processes.ts';
import { RestError, sendEmpty, sendJson } from './rest.ts';
import type { RestRoutes } from './server.ts';
import type { Clock } from './system/clock.ts';
import type { SocketDiag } from './system/socket-diag.ts';

const NO_STORE = { 'Cache-Control': 'no-store' };

interface Parts {
  readonly context: AgentContext;
  readonly processes: Processes;
  readonly lifecycle: Lifecycle;
  readonly freezer: Freezer | undefined;
  readonly clock: Clock;
  readonly socketDiag: SocketDiag;
  readonly hostAddresses: HostAddresses;
  readonly logs: LogBuffer;
  readonly port: number;
}

/** Every REST route of the agent; `ls` of the wire (envd-interface.md, section 5; host-system.md). */
export function agentRoutes(parts: Parts): RestRoutes {
  const { context, processes, lifecycle, freezer, clock, socketDiag, hostAddresses, logs, port } = parts;
  const metrics = new MetricsSampler();
  const preload = new MemoryPreload();
  return {
    ...fileRoutes,
    '/health': { GET: async (_request, response) => sendEmpty(response, 204, NO_STORE) },
    '/metrics': { GET: async (_request, response) => sendJson(response, 200, metrics.sample(), NO_STORE) },
    '/envs': { GET: async (_request, response, _url, { state }) => sendJson(response, 200, state.globalEnv, NO_STORE) },
    '/init': { POST: initRoute(lifecycle, hostAddresses) },
    '/clock': { POST: clockRoute(clock, hostAddresses) },
    '/activity': { GET: activityRoute(context.activity, processes, socketDiag, port) },
    '/logs': { GET: logsRoute(logs, hostAddresses) },
    '/freeze': { POST: freezeRoute(freezer) },
    '/unfreeze': { POST: unfreezeRoute(freezer) },
    '/fsfreeze': { POST: rootFreezeRoute(lifecycle, true) },
    '/fsthaw': { POST: rootFreezeRoute(lifecycle, false) },
    '/collapse': { POST: async (_request, response) => sendJson(response, 200, collapseMemory()) },
    '/snapshot/prepare': { POST: prepareSnapshotRoute(lifecycle) },
    '/snapshot/settle': {
      POST: async (_request, response) => {
        collectGarbage();
        sendEmpty(response, 204);
      },
    },
    '/memory/preload': {
      GET: async (_request, response) => sendJson(response, 200, preload.status),
      POST: async (_request, response) => {
        preload.start();
        sendJson(response, 202, preload.status);
      },
    },
    '/memory/preload/cancel': {
      POST: async (_request, response) => {
        preload.cancel();
        sendEmpty(response, 204);
      },
    },
    '/upgrade': {
      POST: async () => {
        throw new RestError(
          501,
          'the agent cannot be replaced while it runs; a new one comes with the next agent disk',
        );
      },
    },
  };
}
