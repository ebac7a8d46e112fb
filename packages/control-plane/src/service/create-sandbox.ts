import { NestboxError, newSandboxId } from '@nestbox/contract';
import type { Sandbox } from '@nestbox/contract/host';
import type { NewSandbox, SandboxNetworkConfig } from '@nestbox/contract/http';
import type { HostLink } from '../hosts/host-link.ts';
import { type HostLoad, pickHost } from '../scheduler/pick-host.ts';
import type { SandboxRecord, StoredNetwork } from '../store/sandbox-record.ts';
import { committedMemoryMib, findSandbox, insertSandbox, markRunning } from '../store/sandbox-repository.ts';
import { countSpawn } from '../store/template-usage-repository.ts';
import { endSandbox, STOP_RETRY_MS } from './end-sandbox.ts';
import type { ServiceContext } from './service-context.ts';
import { checkSupported, wantsInternet } from './supported-features.ts';
import { type CatalogEntry, findInCatalog, readCatalog } from './template-catalog.ts';
import { checkTimeout } from './timeout-range.ts';

/**
 * Creates a sandbox and resolves when its guest agent is ready; its time runs from then on. Whatever fails on the way,
 * an abort of the signal included, leaves no sandbox behind. Throws NestboxError.
 */
export function createSandbox(
  context: ServiceContext,
  request: NewSandbox,
  signal?: AbortSignal,
): Promise<SandboxRecord> {
  return context.tasks.track(create(context, request, signal));
}

async function create(context: ServiceContext, request: NewSandbox, signal?: AbortSignal): Promise<SandboxRecord> {
  checkTimeout(request.timeout, 1, context.maxTimeoutSec);
  checkSupported(request);
  const entry = findInCatalog(await readCatalog(context, signal), request.templateID);
  const host = await chooseHost(context, entry);
  const starting = describeStarting(context, request, entry, host);

  // The row comes first: what a host has and no row names is taken for left behind and destroyed.
  await insertSandbox(context.db, starting);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => endFailedCreation(context, starting.id));

  const sandbox = await host.createSandbox(
    {
      sandboxId: starting.id,
      templateId: entry.template.templateId,
      envVars: request.envVars ?? {},
      accessToken: request.secure ? context.tokens.guestToken(starting.id) : '',
      allowInternetAccess: wantsInternet(request),
    },
    signal,
  );
  const running = await becomeRunning(context, starting.id, sandbox, request.timeout);
  signal?.throwIfAborted();
  undo.move();
  context.logger.info({ sandboxId: running.id, hostId: host.id, templateId: running.templateId }, 'A sandbox runs');
  return running;
}

async function chooseHost(context: ServiceContext, entry: CatalogEntry): Promise<HostLink> {
  const committed = await committedMemoryMib(context.db);
  const loads = entry.hosts.flatMap((link): HostLoad[] => {
    if (link.state.kind !== 'connected') return [];
    const memoryMib = Number(link.state.host.memoryBytes / 1_048_576n);
    return [{ hostId: link.id, memoryMib, committedMib: committed.get(link.id) ?? 0 }];
  });
  const hostId = pickHost(loads);
  if (hostId === undefined)
    throw new NestboxError('host_unavailable', 'No host that has this template can be reached now.');
  return context.hosts.get(hostId);
}

function describeStarting(
  context: ServiceContext,
  request: NewSandbox,
  { template }: CatalogEntry,
  host: HostLink,
): SandboxRecord {
  const nowMs = context.clock.now();
  return {
    id: newSandboxId(),
    state: 'starting',
    hostId: host.id,
    templateId: template.templateId,
    alias: template.names[0],
    metadata: request.metadata,
    vcpuCount: template.vcpuCount,
    memoryMib: template.memoryMib,
    diskMib: template.diskMib,
    envdVersion: template.envdVersion,
    createdAtMs: nowMs,
    startedAtMs: nowMs,
    endAtMs: nowMs + request.timeout * 1000,
    secure: request.secure,
    allowInternetAccess: request.allow_internet_access,
    allowPublicTraffic: request.network?.allowPublicTraffic !== false,
    network: request.network && storedNetwork(request.network),
  };
}

function storedNetwork({ allowPublicTraffic, denyOut }: SandboxNetworkConfig): StoredNetwork {
  return {
    ...(allowPublicTraffic === undefined ? {} : { allowPublicTraffic }),
    ...(denyOut === undefined ? {} : { denyOut }),
  };
}

async function becomeRunning(
  context: ServiceContext,
  sandboxId: string,
  sandbox: Sandbox,
  timeoutSec: number,
): Promise<SandboxRecord> {
  const startedAtMs = context.clock.now();
  const marked = await markRunning(context.db, sandboxId, {
    vcpuCount: sandbox.vcpuCount,
    memoryMib: sandbox.memoryMib,
    diskMib: sandbox.diskMib,
    envdVersion: sandbox.envdVersion,
    startedAtMs,
    endAtMs: startedAtMs + timeoutSec * 1000,
  });
  const record = await findSandbox(context.db, sandboxId);
  if (!marked || record === undefined)
    throw new NestboxError('sandbox_stopping', 'The sandbox was ended while it was starting.');
  context.endChanged();
  await countSpawn(context.db, record.templateId, startedAtMs);
  return record;
}

/** The failure that led here is the one to report; what fails in cleaning up is retried by the reaper. */
async function endFailedCreation(context: ServiceContext, sandboxId: string): Promise<void> {
  try {
    await endSandbox(context, sandboxId, 'creation failed');
  } catch (error) {
    context.logger.warn({ err: error, sandboxId }, `Cleaning up failed; trying again in ${STOP_RETRY_MS} ms`);
  }
}
