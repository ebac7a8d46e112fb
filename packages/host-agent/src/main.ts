import { NestboxError } from '@nestbox/contract';
import { createLogger, firstStopSignal, tuneForStreams } from '@nestbox/kit';
import { createMetrics, serveMetrics } from '@nestbox/kit/metrics';
import { readDaemonConfig } from './config.ts';
import { startHostAgent } from './host-agent.ts';
import { listenForControlPlane } from './rpc/host-server.ts';

/** The host agent as a daemon of its own, for a control plane elsewhere. `nestbox up` runs it inside its own process. */
async function main(): Promise<void> {
  const config = readDaemonConfig(process.argv.slice(2), process.env);
  tuneForStreams();
  const logger = createLogger({ level: config.logLevel, name: 'host-agent' });
  await using running = new AsyncDisposableStack();
  const metrics = createMetrics();
  if (config.metrics !== undefined) {
    const metricsListener = await serveMetrics(metrics, config.metrics);
    running.defer(() => metricsListener.close());
    logger.info({ url: metricsListener.url }, 'metrics');
  }
  const host = await startHostAgent({
    paths: config.paths,
    logger,
    vmm: config.vmm,
    accelerator: config.accelerator,
    warm: config.warm,
    limits: config.limits,
    useSnapshots: config.useSnapshots,
    scrub: { intervalMs: config.scrubIntervalMs },
    allowPrivate: config.allowPrivate,
    ...(config.metrics === undefined ? {} : { metrics }),
  });
  // Sandboxes go on; the next start finds them.
  running.defer(() => host.stop({ destroySandboxes: false }));
  const listener = await listenForControlPlane(host, config.listen, config.token, logger);
  running.defer(() => listener.close());
  logger.info({ listen: config.listen, port: listener.port, stateDir: config.paths.stateDir }, 'ready');
  const signal = await firstStopSignal();
  logger.info({ signal }, 'stopping; sandboxes go on');
  await listener.drain(config.stopTimeoutMs);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${NestboxError.from(error).message}\n`);
  if (!(error instanceof NestboxError)) console.error(error);
  process.exitCode = 1;
}
