import { join } from 'node:path';
import { createRouterTransport } from '@connectrpc/connect';
import { startTestServer } from '../../../packages/control-plane/src/testing/start-test-server.ts';
import { startHostAgent } from '../../../packages/host-agent/src/host-agent.ts';
import { LoopbackNetworks } from '../../../packages/host-agent/src/testing/loopback-networks.ts';
import { TEST_LOGGER, testDriver, tinyAgentCommand } from '../../../packages/host-agent/src/testing/test-host.ts';

/**
 * Control plane and host agent in a process of their own, joined as `nestbox up` joins them, to be killed; VMs are processes that stay.
 * Tells the address of its API as a message. Arguments: state folder, run folder, instance.
 */
const [, , stateDir = '', runDir = '', instance = ''] = process.argv;
const paths = { stateDir, runDir, instance };
const networks = new LoopbackNetworks();
const driver = testDriver(paths, networks, (address) => tinyAgentCommand(address, ''));
const agent = await startHostAgent({ paths, logger: TEST_LOGGER, driver, networks });
const server = await startTestServer(
  [
    {
      connection: {
        id: 'local',
        transport: createRouterTransport(agent.routes),
        proxyAddress: { handler: agent.proxy },
      },
    },
  ],
  { databasePath: join(stateDir, 'nestbox.db'), stopTimeoutMs: 10_000 },
);
process.once('SIGTERM', async () => {
  await server.stop();
  await agent.stop({ destroySandboxes: false });
  process.disconnect();
});
process.send?.(server.apiUrl);
