import { startHostAgent } from '../host-agent.ts';
import { LoopbackNetworks } from './loopback-networks.ts';
import { TEST_LOGGER, testDriver, testSpec, tinyAgentCommand } from './test-host.ts';

/**
 * A host agent in a process of its own, to be killed: runs one sandbox, has another half-way through its boot, says so on
 * standard output, and stays. Arguments: state folder, run folder, instance.
 */
const [, , stateDir = '', runDir = '', instance = ''] = process.argv;
const paths = { stateDir, runDir, instance };
const networks = new LoopbackNetworks();
let mood = '';
const driver = testDriver(paths, networks, (address) => tinyAgentCommand(address, mood));
const host = await startHostAgent({ paths, logger: TEST_LOGGER, driver, networks, useSnapshots: false });
const running = testSpec({ accessToken: 'secret' });
await host.manager.create(running);
mood = 'deaf';
const starting = testSpec();
const creating = host.manager.create(starting);
const seen = { running, starting };
process.stdout.write(`${JSON.stringify(seen)}\n`);
await creating;
