import { Histogram, type Registry } from '@nestbox/kit/metrics';
import type { ApiServer } from './api-server.ts';

/** From a look at a row to the boot of a VM without KVM. */
const BUCKETS_SEC = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Counts and times requests by route, never by path: ids would make a series each. */
export function observeRequests(app: ApiServer, registry: Registry): void {
  const seconds = new Histogram({
    name: 'nestbox_api_request_duration_seconds',
    help: 'Requests of the control API, by route',
    labelNames: ['method', 'route', 'status'],
    buckets: BUCKETS_SEC,
    registers: [registry],
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    const method = route === 'unknown' ? 'any' : request.method;
    seconds.observe({ method, route, status: reply.statusCode }, reply.elapsedTime / 1000);
  });
}
