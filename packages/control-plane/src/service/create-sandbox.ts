import { NestboxError, newSandboxId } from '@nestbox/contract';
import type { NewSandbox, SandboxNetworkConfig } from '@nestbox/contract/http';
import { type HostLink, toHostEgress } from '../hosts/host-link.ts';
import { type HostLoad, pickHost } from '../scheduler/pick-host.ts';
import { requireTakingNew } from '../scheduler/takes-new.ts';
import type { SandboxRecord, StoredNetwork } from '../store/sandbox-record.ts';
import { committedMemoryMib, findSandbox, insertSandboxes } from '../store/sandbox-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { countSpawn } from '../store/template-usage-repository.ts';
import { becomeRunning } from './become-running.ts';
import { endFailedCreation } from './end-sandbox.ts';
import { notesOf } from './sandbox-notes.ts';
import { checkSupported, egressOf } from './supported-features.ts';
import type { TeamContext } from './team-context.ts';
import { demandOf, withinLimits } from './team-limits.ts';
import { type CatalogEntry, findInCatalog, readCatalog } from './template-catalog.ts';
import { shortName } from './template-name.ts';
import { checkTimeout } from './timeout-range.ts';
import type { Timings } from './timings.ts';

/**
 * Creates a sandbox and resolves when its guest agent is ready; its time runs from then on. Whatever fails on the way,
 * an abort of the signal included, leaves no sandbox behind. Throws NestboxError.
 */
export function createSandbox(
  context: TeamContext,
  request: NewSandbox,
  timings: Timings,
  signal?: AbortSignal,
): Promise<SandboxRecord> {
  return context.tasks.track(create(context, request, timings, signal));
}

async function create(
  context: TeamContext,
  request: NewSandbox,
  timings: Timings,
  signal?: AbortSignal,
): Promise<SandboxRecord> {
  checkTimeout(request.timeout, 1, context.maxTimeoutSec);
  checkSupported(request);
  const catalog = await timings.measure('templates', () => readCatalog(context, signal));
  const entry = findInCatalog(catalog, request.templateID);
  const host = await timings.measure('db', () => chooseHost(context, entry));
  // The row comes first: what a host has and no row names is taken for left behind and destroyed.
  const starting = await timings.measure('db', () =>
    insertStarting(context, describeStarting(context, request, entry, host)),
  );
  await using undo = new AsyncDisposableStack();
  undo.defer(() => endFailedCreation(context, starting));

  const { sandbox, stages } = await timings.measure('host', () =>
    host.createSandbox(
      {
        sandboxId: starting.id,
        templateId: entry.template.templateId,
        envVars: request.envVars ?? {},
        accessToken: request.secure ? context.tokens.guestToken(starting.id) : '',
        ...toHostEgress(egressOf(request)),
        notes: notesOf(starting),
      },
      signal,
    ),
  );
  timings.add(stages);
  const running = await timings.measure('db', () => becomeRunning(context, sandbox, request.timeout));
  signal?.throwIfAborted();
  undo.move();
  context.tasks.start(`counting a use of the template ${running.templateId}`, () =>
    countSpawn(context.db, context.scope, running.templateId, running.startedAtMs),
  );
  context.logger.info({ sandboxId: running.id, hostId: host.id, templateId: running.templateId }, 'A sandbox runs');
  return running;
}

/** With several control planes on one database another may have taken the VM that waits. */
async function insertStarting(context: TeamContext, starting: SandboxRecord): Promise<SandboxRecord> {
  const insert = (record: SandboxRecord) =>
    withinLimits(context, demandOf([record]), (trx) => insertSandboxes(trx, [record]));
  try {
    await insert(starting);
    return starting;
  } catch (error) {
    if ((await findSandbox(context.db, EVERY_TEAM, starting.id)) === undefined) throw error;
    const renamed = { ...starting, id: newSandboxId() };
    await insert(renamed);
    return renamed;
  }
}

async function chooseHost(context: TeamContext, entry: CatalogEntry): Promise<HostLink> {
  const connected = entry.hosts.filter(({ state }) => state.kind === 'connected');
  const taking = connected.length === 0 ? [] : await requireTakingNew(context.db, connected);
  const whole = taking.filter((link) => !entry.damagedOn.has(link));
  // Where it is damaged everywhere a host says so, or finds that it was mended.
  const [only, ...others] = whole.length > 0 ? whole : taking;
  if (only === undefined)
    throw new NestboxError('host_unavailable', 'No host that has this template can be reached now.');
  if (others.length === 0) return only;
  const committed = await committedMemoryMib(context.db);
  const loads = [only, ...others].flatMap((link): HostLoad[] => {
    if (link.state.kind !== 'connected') return [];
    const memoryMib = Number(link.state.host.memoryBytes / 1_048_576n);
    return [{ hostId: link.id, memoryMib, committedMib: committed.get(link.id) ?? 0 }];
  });
  return context.hosts.get(pickHost(loads) ?? only.id);
}

function describeStarting(
  context: TeamContext,
  request: NewSandbox,
  { template, warmIds }: CatalogEntry,
  host: HostLink,
): SandboxRecord {
  const nowMs = context.clock.now();
  const [name] = template.names;
  return {
    // A VM that waits has its id already: whoever creates a sandbox of that name gets it.
    id: context.warmIds.take(warmIds.get(host.id) ?? []) ?? newSandboxId(),
    teamId: context.scope.teamId,
    state: 'starting',
    hostId: host.id,
    templateId: template.templateId,
    alias: name === undefined ? undefined : shortName(name),
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
    autoPause: request.autoPause === true,
    autoPauseMemory: request.autoPauseMemory !== false,
    autoResume: request.autoResume?.enabled === true,
    timeoutSec: request.timeout,
    pausedMemory: undefined,
    owner: context.leases.serverId,
    revision: 0,
  };
}

function storedNetwork({
  allowPublicTraffic,
  allowOut,
  denyOut,
  maskRequestHost,
  httpsPorts,
}: SandboxNetworkConfig): StoredNetwork {
  return {
    ...(maskRequestHost ? { maskRequestHost } : {}),
    ...(httpsPorts === undefined || httpsPorts.length === 0 ? {} : { httpsPorts: [...new Set(httpsPorts)] }),
    ...(allowPublicTraffic === undefined ? {} : { allowPublicTraffic }),
    ...(allowOut === undefined ? {} : { allowOut }),
    ...(denyOut === undefined ? {} : { denyOut }),
  };
}
