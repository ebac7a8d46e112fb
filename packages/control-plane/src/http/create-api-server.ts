import { randomUUID } from 'node:crypto';
import { NestboxError } from '@nestbox/contract';
import type { RequestsUnderWay } from '@nestbox/kit';
import type { Registry } from '@nestbox/kit/metrics';
import fastify, { type FastifyReply } from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { z } from 'zod';
import { HEADERS_TIMEOUT_MS, IDLE_TIMEOUT_MS } from '../edge/listener-limits.ts';
import { answerBrokenRequest, refusalOf, refuseTunnels } from '../edge/refused-requests.ts';
import type { ServiceContext } from '../service/service-context.ts';
import type { ApiServer } from './api-server.ts';
import { auditRequest, noteAddress, prepareAudit } from './audit-requests.ts';
import type { Authenticator } from './authenticate.ts';
import { noteCaller, prepareCallers } from './caller.ts';
import { type ErrorResponse, toErrorResponse } from './error-response.ts';
import { KnownPaths } from './known-paths.ts';
import { BODY_TIMEOUT_MS, limitBody } from './limit-body.ts';
import { noteCall } from './note-calls.ts';
import { observeRequests } from './observe-requests.ts';
import { OpenApi } from './openapi.ts';
import { adminApiKeysRoute } from './routes/admin-api-keys.ts';
import { adminSandboxesRoute } from './routes/admin-sandboxes.ts';
import { adminTeamsRoute } from './routes/admin-teams.ts';
import { apiKeysRoute } from './routes/api-keys.ts';
import { auditRoute } from './routes/audit.ts';
import { connectSandboxRoute } from './routes/connect-sandbox.ts';
import { createSandboxRoute } from './routes/create-sandbox.ts';
import { deleteTemplateRoute } from './routes/delete-template.ts';
import { diskUsageRoute } from './routes/disk-usage.ts';
import { forkSandboxRoute } from './routes/fork-sandbox.ts';
import { getSandboxRoute } from './routes/get-sandbox.ts';
import { healthRoute } from './routes/health.ts';
import { killSandboxRoute } from './routes/kill-sandbox.ts';
import { listSandboxesRoute } from './routes/list-sandboxes.ts';
import { listSnapshotsRoute } from './routes/list-snapshots.ts';
import { listTemplatesRoute } from './routes/list-templates.ts';
import { nodesRoute } from './routes/nodes.ts';
import { openApiRoutes } from './routes/openapi.ts';
import { pauseSandboxRoute } from './routes/pause-sandbox.ts';
import { refreshSandboxRoute } from './routes/refresh-sandbox.ts';
import { resumeSandboxRoute } from './routes/resume-sandbox.ts';
import { sandboxActivityRoute } from './routes/sandbox-activity.ts';
import { sandboxLogsRoute } from './routes/sandbox-logs.ts';
import { sandboxMetricsRoute } from './routes/sandbox-metrics.ts';
import { sandboxTraceRoute } from './routes/sandbox-trace.ts';
import { setTimeoutRoute } from './routes/set-timeout.ts';
import { snapshotSandboxRoute } from './routes/snapshot-sandbox.ts';
import { teamsRoute } from './routes/teams.ts';
import { templateAliasRoute } from './routes/template-alias.ts';
import { unsupportedRoutes } from './routes/unsupported.ts';
import { updateNetworkRoute } from './routes/update-network.ts';
import { sandboxOf } from './sandbox-of-request.ts';

const BODY_LIMIT_BYTES = 1024 * 1024;
/** Ids of any length reach the services, which answer 404 for what can be none. Headers are limited by node to 16 KiB. */
const MAX_PARAM_LENGTH = 16 * 1024;
/** For receiving a whole request, when nothing else ends it before. */
const REQUEST_TIMEOUT_MS = 2 * BODY_TIMEOUT_MS;

/** The control API, not listening yet. It counts its requests in `requests`. */
export function createApiServer(
  context: ServiceContext,
  authenticator: Authenticator,
  requests: RequestsUnderWay,
  metrics?: Registry,
): ApiServer {
  const app = fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    http: {
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: HEADERS_TIMEOUT_MS / 2,
      requireHostHeader: false,
    },
    forceCloseConnections: true,
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    exposeHeadRoutes: false,
    genReqId: () => randomUUID(),
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: (error, request, reply) => {
      limitBody(request, reply);
      sendError(reply, error);
    },
  }).withTypeProvider<ZodTypeProvider>();
  refuseTunnels(app.server);
  app.server.on('checkExpectation', (request, response) => app.routing(request, response));
  app.setValidatorCompiler<z.core.$ZodType>((route) => {
    const validate = validatorCompiler(route);
    // Fastify shows a missing body to validators as null; a schema with a default looks for undefined.
    return (data: unknown) => validate(data ?? undefined);
  });
  app.setSerializerCompiler(serializerCompiler);
  parseJsonBodies(app);
  if (metrics !== undefined) observeRequests(app, metrics);
  app.addHook('onRequest', (request, reply, done) => {
    requests.track(reply.raw);
    limitBody(request, reply);
    const refusal = refusalOf(request.raw);
    if (refusal === undefined) done();
    else void reply.code(refusal.status).send(refusal.body);
  });
  app.addHook('onSend', (request, reply, _payload, done) => {
    // HTTP/2 has no such header; its connections are told in a way of their own.
    if (requests.isEnding && request.raw.httpVersionMajor === 1) reply.header('Connection', 'close');
    done();
  });

  const knownPaths = new KnownPaths();
  const openApi = new OpenApi();
  app.addHook('onRoute', (route) => {
    knownPaths.add(route.url, route.method);
    openApi.add(route);
  });
  app.setNotFoundHandler((request, reply) => {
    const methods = knownPaths.methodsOf(request.url);
    if (methods.length === 0)
      return sendError(
        reply,
        new NestboxError('not_found', `There is no ${request.method} ${shortPath(request.url)}.`),
      );
    reply.header('Allow', methods.join(', '));
    return sendError(
      reply,
      new NestboxError('method_not_allowed', `This path answers ${methods.join(', ')}, not ${request.method}.`),
    );
  });
  app.setErrorHandler((error, request, reply) => {
    const response = toErrorResponse(error);
    const { id: requestId, method, url } = request;
    const facts = { err: error, requestId, method, path: shortPath(url), sandboxId: sandboxOf(request) };
    if (response.status === 500) context.logger.error(facts, 'A request failed');
    else context.logger.debug(facts, 'A request was refused');
    return sendResponse(reply, response);
  });

  healthRoute(app);
  openApiRoutes(app, openApi);
  void app.register((authenticated, _options, done) => {
    prepareCallers(authenticated);
    prepareAudit(authenticated);
    authenticated.addHook('onRequest', async (request) => {
      noteAddress(request);
      noteCaller(request, await authenticator.authenticate(request));
    });
    authenticated.addHook('onSend', async (request, reply, payload) => {
      reply.header('X-Request-Id', request.id);
      noteCall(context.calls, request, reply);
      await auditRequest(context.audit, request, reply, payload);
    });
    const routes = authenticated.withTypeProvider<ZodTypeProvider>();
    createSandboxRoute(routes, context);
    getSandboxRoute(routes, context);
    listSandboxesRoute(routes, context);
    killSandboxRoute(routes, context);
    pauseSandboxRoute(routes, context);
    resumeSandboxRoute(routes, context);
    connectSandboxRoute(routes, context);
    forkSandboxRoute(routes, context);
    snapshotSandboxRoute(routes, context);
    setTimeoutRoute(routes, context);
    updateNetworkRoute(routes, context);
    refreshSandboxRoute(routes, context);
    sandboxMetricsRoute(routes, context);
    sandboxLogsRoute(routes, context);
    sandboxActivityRoute(routes, context);
    sandboxTraceRoute(routes, context);
    listSnapshotsRoute(routes, context);
    listTemplatesRoute(routes, context);
    templateAliasRoute(routes, context);
    deleteTemplateRoute(routes, context);
    diskUsageRoute(routes, context);
    teamsRoute(routes, context);
    apiKeysRoute(routes, context);
    adminTeamsRoute(routes, context);
    adminApiKeysRoute(routes, context);
    adminSandboxesRoute(routes, context);
    nodesRoute(routes, context);
    auditRoute(routes, context);
    unsupportedRoutes(routes);
    done();
  });
  return app;
}

/** JSON only, and an empty body is no body: some bodies are optional, and clients send their header all the same. */
function parseJsonBodies(app: ApiServer): void {
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = body.toString();
    if (text.length === 0) done(null, undefined);
    else void parseJson(request, text, (error, parsed) => done(error && (unwantedKey(text) ?? error), parsed));
  });
}

/** Why JSON was refused that is valid. */
function unwantedKey(text: string): NestboxError | undefined {
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  return new NestboxError(
    'invalid_request',
    'The body has a key "__proto__", or a "constructor" with a "prototype": these names are not taken.',
  );
}

function sendError(reply: FastifyReply, error: unknown): FastifyReply {
  return sendResponse(reply, toErrorResponse(error));
}

function sendResponse(reply: FastifyReply, { status, body, retryAfterSec }: ErrorResponse): FastifyReply {
  if (retryAfterSec !== undefined) reply.header('Retry-After', retryAfterSec);
  return reply.code(status).send(body);
}

const SHOWN_PATH_LENGTH = 120;

function shortPath(url: string): string {
  const path = url.split('?', 1)[0] ?? '';
  return path.length > SHOWN_PATH_LENGTH ? `${path.slice(0, SHOWN_PATH_LENGTH)}…` : path;
}
