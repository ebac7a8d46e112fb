import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Transport } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { NestboxError } from '@nestbox/contract';
import { createLogger, firstStopSignal, tuneForStreams } from '@nestbox/kit';
import { createMetrics, serveMetrics } from '@nestbox/kit/metrics';
import { type DaemonConfig, type RemoteHost, readDaemonConfig } from './daemon-config.ts';
import { startControlPlane } from './start-control-plane.ts';
import { takeStoreLocation } from './store/open-store.ts';
import { certificateFiles } from './tls/certificate-source.ts';

/** The control plane by itself, for hosts on other machines: `node main.ts CONFIG.json`. */
async function main(): Promise<void> {
  const [path] = process.argv.slice(2);
  if (path === undefined) throw new NestboxError('invalid_request', 'Usage: node main.ts CONFIG.json');
  const { hosts, logLevel, tls, metrics: metricsAddress, stopTimeoutSec, ...config } = await readDaemonConfig(path);
  tuneForStreams();
  const logger = createLogger({ level: logLevel, name: 'control-plane' });
  await using running = new AsyncDisposableStack();
  const metrics = createMetrics();
  if (metricsAddress !== undefined) {
    const listener = await serveMetrics(metrics, metricsAddress);
    running.defer(() => listener.close());
    logger.info({ url: listener.url }, 'Metrics');
  }
  const plane = await startControlPlane({
    ...withoutUndefined(config),
    logger,
    stopTimeoutMs: stopTimeoutSec * 1000,
    ...(metricsAddress === undefined ? {} : { metrics }),
    ...(tls === undefined ? {} : { front: { address: tls, certificate: certificateFiles(tls.certPath, tls.keyPath) } }),
    hosts: hosts.map((host) => ({
      id: host.id,
      transport: remoteTransport(host),
      proxyAddress: { ...host.proxy, token: host.token },
    })),
  });
  logger.info({ apiUrl: plane.apiUrl, edgeUrl: plane.edgeUrl }, 'Ready');
  const signal = await firstStopSignal();
  logger.info({ signal }, 'Stopping; sandboxes go on');
  await plane.stop();
}

function remoteTransport({ url, token }: RemoteHost): Transport {
  // The agents' TCP keep-alive finds hosts that vanished while the watch says nothing.
  const agent = url.startsWith('https:') ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
  return createConnectTransport({
    baseUrl: url,
    httpVersion: '1.1',
    nodeOptions: { agent },
    interceptors: [
      (next) => (request) => {
        request.header.set('Authorization', `Bearer ${token}`);
        return next(request);
      },
    ],
  });
}

/** As the control plane takes it: optional fields that are not there, instead of there and undefined. */
function withoutUndefined({
  databasePath,
  domain,
  maxTimeoutSec,
  leaseMs,
  adminToken,
  ...rest
}: Omit<DaemonConfig, 'hosts' | 'logLevel' | 'tls' | 'metrics' | 'stopTimeoutSec'>) {
  return {
    ...rest,
    database: takeStoreLocation(databasePath, process.env),
    ...(adminToken === undefined ? {} : { adminToken }),
    ...(domain === undefined ? {} : { domain }),
    ...(leaseMs === undefined ? {} : { leaseMs }),
    ...(maxTimeoutSec === undefined ? {} : { maxTimeoutSec }),
  };
}

try {
  await main();
  process.exitCode = 0;
} catch (error) {
  const known = NestboxError.from(error, error instanceof Error ? error.message : String(error));
  process.stderr.write(`${known.code}: ${known.message}\n`);
  process.exitCode = 1;
}
