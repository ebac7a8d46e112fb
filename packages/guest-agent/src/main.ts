import { parseArgs } from 'node:util';
import { Activity } from './activity.ts';
import type { AgentContext } from './context.ts';
import { ChildReaper } from './process/child-reaper.ts';
import { Launcher } from './process/launcher.ts';
import { Processes } from './process/processes.ts';
import { processService } from './process/service.ts';
import { createRpcHandler } from './rpc/router.ts';
import { createAgentServer } from './server.ts';
import { AgentState } from './state.ts';

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '0.0.0.0:49983' },
    'runtime-dir': { type: 'string', default: '/run/e2b' },
    'no-port-forwarding': { type: 'boolean', default: false },
  },
});
const isInit = process.pid === 1;
const context: AgentContext = {
  state: new AgentState(),
  activity: new Activity(),
  runtimeDir: values['runtime-dir'],
  isInit,
};
const processes = new Processes(new Launcher(undefined), new ChildReaper({ reapsOrphans: isInit }));
const rpc = createRpcHandler([processService(context, processes)]);
const server = createAgentServer(context, rpc, new Map());
const [, host, port] = /^(.*):(\d+)$/.exec(values.listen) ?? [];
server.listen(Number(port), host, () => console.log('nestbox: agent ready', JSON.stringify(server.address())));
