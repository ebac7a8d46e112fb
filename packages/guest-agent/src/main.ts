import { readFileSync } from 'node:fs';
import { createAgent } from './agent.ts';
import { parseCommandLine } from './command-line.ts';
import { CompilerTuning } from './compiler-tuning.ts';
import { bootGuest } from './init/boot.ts';

const isInit = process.pid === 1;
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    console.error(`nestbox: ${event}:`, error);
    // The first process must never end: the kernel would panic, and take the sandbox along.
    if (!isInit) process.exit(1);
  });
}

const compilers = new CompilerTuning(readFileSync('/proc/cpuinfo', 'utf8'));

const { host, port, runtimeDir, portForwarding } = parseCommandLine(process.argv.slice(2));
if (isInit) bootGuest();

const agent = createAgent({ runtimeDir, isInit, portForwarding, port, compilers });
agent.server.listen(port, host, () => {
  const address = agent.server.address();
  const where = typeof address === 'object' && address !== null ? `${address.address}:${address.port}` : address;
  console.log(isInit ? 'nestbox: agent ready' : `nestbox: agent ready on ${where}`);
  agent.start();
});
