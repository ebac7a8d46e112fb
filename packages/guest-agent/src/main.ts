import { existsSync } from 'node:fs';
import { GUEST_NETWORK } from '@nestbox/contract';
import { Activity } from './activity.ts';
import { Freezer } from './cgroups/freezer.ts';
import { GuestCgroups } from './cgroups/guest-cgroups.ts';
import { parseCommandLine } from './command-line.ts';
import type { AgentContext } from './context.ts';
import { filesystemService } from './filesystem/service.ts';
import { bootGuest } from './init/boot.ts';
import { Connections } from './lifecycle/connections.ts';
import { Lifecycle } from './lifecycle/lifecycle.ts';
import { PortForwarding } from './ports/port-forwarding.ts';
import { ChildReaper } from './process/child-reaper.ts';
import { Launcher } from './process/launcher.ts';
import { Processes } from './process/processes.ts';
import { processService } from './process/service.ts';
import { agentRoutes } from './routes.ts';
import { createRpcHandler } from './rpc/router.ts';
import { createAgentServer } from './server.ts';
import { AgentState } from './state.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

const isInit = process.pid === 1;
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    console.error(`nestbox: ${event}:`, error);
    // The first process must never end: the kernel would panic, and take the sandbox along.
    if (!isInit) process.exit(1);
  });
}

const options = parseCommandLine(process.argv.slice(2));
if (isInit) bootGuest();

const context: AgentContext = {
  state: new AgentState(),
  activity: new Activity(),
  runtimeDir: options.runtimeDir,
  isInit,
};
const cgroups = isInit && existsSync(`${CGROUP_ROOT}/cgroup.controllers`) ? new GuestCgroups(CGROUP_ROOT) : undefined;
const freezer = cgroups && new Freezer(cgroups.root);
const forwarding = options.portForwarding && isInit ? new PortForwarding(GUEST_NETWORK.address) : undefined;
const processes = new Processes(new Launcher(cgroups), new ChildReaper({ reapsOrphans: isInit }));
const connections = new Connections();
const lifecycle = new Lifecycle({ context, connections, forwarding, freezer });
const server = createAgentServer(
  context,
  createRpcHandler([processService(context, processes), filesystemService(context)]),
  agentRoutes({ context, processes, lifecycle, freezer, port: options.port }),
);
server.on('connection', (socket) => connections.add(socket));
server.once('error', (error) => {
  console.error(`nestbox: cannot listen on ${options.host}:${options.port}:`, error.message);
  process.exitCode = 1;
});
server.listen(options.port, options.host, () => {
  const address = server.address();
  const where = typeof address === 'object' && address !== null ? `${address.address}:${address.port}` : address;
  console.log(isInit ? 'nestbox: agent ready' : `nestbox: agent ready on ${where}`);
  forwarding?.start();
  lifecycle.announce('E2B_SANDBOX', 'true').catch((error: unknown) => console.error('nestbox:', error));
});
