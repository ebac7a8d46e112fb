import { createLogger } from '@nestbox/kit';
import { startHostAgent } from '../host-agent.ts';
import { testSpec } from './test-host.ts';

/**
 * A host agent with real VMs in a process of its own, to be killed: runs one sandbox, says so on standard output, and
 * stays. Arguments: state folder, run folder, instance.
 */
const [, , stateDir = '', runDir = '', instance = ''] = process.argv;
const host = await startHostAgent({
  paths: { stateDir, runDir, instance },
  logger: createLogger({ level: 'warn' }),
  networkPoolSize: 1,
});
const spec = testSpec({ accessToken: 'secret' });
await host.manager.create(spec);
process.stdout.write(`${JSON.stringify(spec)}\n`);
setInterval(() => {}, 60_000);
