import { existsSync } from 'node:fs';
import type { Server } from 'node:http';
import { GUEST_NETWORK } from '@nestbox/contract';
import { Activity } from './activity.ts';
import { attempt } from './attempt.ts';
import { Freezer } from './cgroups/freezer.ts';
import { GuestCgroups } from './cgroups/guest-cgroups.ts';
import type { CompilerTuning } from './compiler-tuning.ts';
import type { AgentContext } from './context.ts';
import { filesystemService } from './filesystem/service.ts';
import { Connections } from './lifecycle/connections.ts';
import { GUEST_HOST_ADDRESSES, HostAddresses } from './lifecycle/host-addresses.ts';
import { Lifecycle } from './lifecycle/lifecycle.ts';
import { restoreHandler } from './lifecycle/restore-route.ts';
import { LogBuffer } from './logs/log-buffer.ts';
import { PortForwarding } from './ports/port-forwarding.ts';
import { ChildReaper } from './process/child-reaper.ts';
import { Launcher } from './process/launcher.ts';
import { ProcessLog } from './process/process-log.ts';
import { Processes } from './process/processes.ts';
import { processService } from './process/service.ts';
import { agentRoutes } from './routes.ts';
import { createRpcHandler } from './rpc/router.ts';
import { createAgentServer } from './server.ts';
import { AgentState } from './state.ts';
import { WallClock } from './system/clock.ts';
import { loadSocketDiag, SocketDiag } from './system/socket-diag.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

export interface AgentOptions {
  /** Folder of the files by which programs learn that they run in a sandbox. */
  readonly runtimeDir: string;
  /** Whether the machine is the agent's own, as the first process of a guest. */
  readonly isInit: boolean;
  readonly portForwarding: boolean;
  /** The port that the server will listen on; traffic to it is not the sandbox's. */
  readonly port: number;
  /** Where requests come from that are the host's own. Default: in a guest the host's end of the network, else nowhere. */
  readonly hostAddresses?: HostAddresses;
  /** Undefined: V8 stays as it is. */
  readonly compilers?: CompilerTuning;
}

export interface Agent extends Disposable {
  readonly server: Server;
  readonly context: AgentContext;
  /** Begins what runs beside the server; call it when that listens. */
  start(): void;
}

/** Puts the agent together. Nothing of the machine changes before `start`, but for the control groups of a guest. */
export function createAgent(options: AgentOptions): Agent {
  const { runtimeDir, isInit, portForwarding, port, compilers } = options;
  const hostAddresses = options.hostAddresses ?? new HostAddresses(isInit ? GUEST_HOST_ADDRESSES : []);
  const context: AgentContext = { state: new AgentState(), activity: new Activity(), runtimeDir, isInit, compilers };
  const cgroups = isInit && existsSync(`${CGROUP_ROOT}/cgroup.controllers`) ? new GuestCgroups(CGROUP_ROOT) : undefined;
  const freezer = cgroups && new Freezer(cgroups.root);
  const socketDiag = new SocketDiag();
  const forwarding =
    isInit && portForwarding
      ? new PortForwarding(GUEST_NETWORK.address, (states) => socketDiag.list(states))
      : undefined;
  const connections = new Connections();
  const clock = new WallClock();
  const lifecycle = new Lifecycle({ context, clock, connections, forwarding, freezer, socketDiag });
  const reaper = new ChildReaper({ reapsOrphans: isInit });
  const logs = new LogBuffer(() => context.state.internalEnv('E2B_SANDBOX_ID'));
  const processes = new Processes(new Launcher(cgroups), reaper, new ProcessLog(logs));
  const server = createAgentServer(
    context,
    createRpcHandler([processService(context, processes), filesystemService(context)]),
    agentRoutes({ context, processes, lifecycle, freezer, clock, socketDiag, hostAddresses, logs, port }),
    restoreHandler(lifecycle, hostAddresses),
  );
  server.on('connection', (socket) => connections.add(socket));
  return {
    server,
    context,
    start: () => {
      if (isInit) attempt('loading the socket diagnosis', loadSocketDiag);
      forwarding?.start();
      lifecycle.identity.announce();
    },
    [Symbol.dispose]: () => {
      reaper[Symbol.dispose]();
      socketDiag.close();
    },
  };
}
