import { create } from '@bufbuild/protobuf';
import type { ConnectRouter, HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { ENVD_VERSION } from '@nestbox/contract';
import {
  GetSandboxMetricsResponseSchema,
  HostService,
  SandboxSchema,
  LogLevel as WireLevel,
  SandboxState as WireState,
} from '@nestbox/contract/host';
import { toRpcError } from '@nestbox/kit';
import type { HostAgent } from '../host-agent.ts';
import type { ForkOutcome, SandboxInfo, SandboxState } from '../sandbox/sandbox.ts';
import type { ListedTemplate } from '../sandbox/template-list.ts';
import type { Traced } from '../sandbox/trace.ts';
import type { DiskItem } from '../storage/disk-usage.ts';
import type { LogLevel } from '../telemetry/log-entry.ts';
import type { MetricSample } from '../telemetry/metric-history.ts';
import { describeToWire } from './describe-to-wire.ts';
import {
  parseCreateRequest,
  parseEgress,
  parseForkCopies,
  parseLogQuery,
  parsePauseOptions,
  parseResumeOptions,
  parseSandboxIdField,
  parseSnapshotSpec,
} from './parse-request.ts';

const WIRE_STATES: Record<SandboxState, WireState> = {
  starting: WireState.STARTING,
  running: WireState.RUNNING,
  stopping: WireState.STOPPING,
  gone: WireState.GONE,
  pausing: WireState.PAUSING,
  paused: WireState.PAUSED,
  resuming: WireState.RESUMING,
};

const WIRE_LEVELS: Record<LogLevel, WireLevel> = {
  debug: WireLevel.DEBUG,
  info: WireLevel.INFO,
  warn: WireLevel.WARN,
  error: WireLevel.ERROR,
};

/** host.v1 on top of the sandbox manager. Every error leaves through toRpcError, so the stable code survives the wire. */
export function hostRoutes(host: Pick<HostAgent, 'manager' | 'describe'>): (router: ConnectRouter) => void {
  const { manager } = host;
  const service: ServiceImpl<typeof HostService> = {
    getHost: answering(async (_request, context) => describeToWire(await host.describe(context.signal))),
    createSandbox: answering(async (request, context) => {
      return withStages(await manager.create(parseCreateRequest(request), context.signal));
    }),
    pauseSandbox: answering(async (request) => {
      return withStages(await manager.pause(parseSandboxIdField(request), parsePauseOptions(request)));
    }),
    resumeSandbox: answering(async (request) => {
      return withStages(await manager.resume(parseSandboxIdField(request), parseResumeOptions(request)));
    }),
    forkSandbox: answering(async (request) => {
      const { result, stages } = await manager.fork(parseSandboxIdField(request), parseForkCopies(request));
      return { outcomes: result.map(outcomeToWire), stages: [...stages] };
    }),
    snapshotSandbox: answering(async (request) => {
      const { result, stages } = await manager.snapshot(parseSandboxIdField(request), parseSnapshotSpec(request));
      return { template: templateToWire({ ...result, damage: undefined }, []), stages: [...stages] };
    }),
    setSandboxEgress: answering(async (request) => {
      await manager.setEgress(parseSandboxIdField(request), parseEgress(request));
      return {};
    }),
    getSandbox: answering(async (request) => {
      const sandboxId = parseSandboxIdField(request);
      const { notes = '', ...origin } = manager.origin(sandboxId);
      return { sandbox: toWire(manager.get(sandboxId)), origin: { notes, ...origin } };
    }),
    listSandboxes: answering(async () => ({ sandboxes: manager.list().map(toWire) })),
    destroySandbox: answering(async (request) => ({
      destroyed: await manager.destroy(parseSandboxIdField(request)),
    })),
    async *watchSandboxes(_request, context) {
      try {
        for await (const event of manager.watch(context.signal)) {
          yield event.kind === 'snapshot'
            ? { event: { case: 'snapshot', value: { sandboxes: event.sandboxes.map(toWire) } } as const }
            : { event: { case: 'changed', value: toWire(event.sandbox) } as const };
        }
      } catch (error) {
        throw toRpcError(error);
      }
    },
    listTemplates: answering(async () => ({
      templates: (await manager.templates()).map((template) =>
        templateToWire(template, manager.warmSandboxIds(template.templateId)),
      ),
    })),
    deleteTemplate: answering(async (request) => ({ deleted: await manager.deleteTemplate(request.templateId) })),
    getSandboxMetrics: answering(async (request, context) => {
      return sampleToWire(await manager.metrics(parseSandboxIdField(request), context.signal));
    }),
    listSandboxMetrics: answering(async (request) => {
      const samples = await manager.metricHistory(parseSandboxIdField(request), {
        startMs: Number(request.startMs),
        endMs: Number(request.endMs),
        maxPoints: request.maxPoints,
      });
      return { samples: samples.map(sampleToWire) };
    }),
    getLatestMetrics: answering(async ({ sandboxIds }) => {
      const ids = sandboxIds.map((sandboxId) => parseSandboxIdField({ sandboxId }));
      const samples = await manager.latestMetrics(ids);
      return { samples: Object.fromEntries([...samples].map(([id, sample]) => [id, sampleToWire(sample)])) };
    }),
    getSandboxLogs: answering(async (request) => {
      const lines = await manager.logs(parseSandboxIdField(request), parseLogQuery(request));
      return {
        lines: lines.map(({ timeMs, level, message, fields }) => ({
          timeMs: BigInt(timeMs),
          level: WIRE_LEVELS[level],
          message,
          fields: { ...fields },
        })),
      };
    }),
    getSandboxActivity: answering(async (request, context) => {
      const activity = await manager.activity(parseSandboxIdField(request), context.signal);
      return { ...activity, lastActivityAtMs: BigInt(Math.floor(activity.lastActivityAtMs)) };
    }),
    getSandboxTrace: answering(async (request) => ({
      operations: manager.operations(parseSandboxIdField(request)).map((operation) => ({
        ...operation,
        startedAtMs: BigInt(operation.startedAtMs),
        stages: [...operation.stages],
        error: operation.error ?? '',
      })),
    })),
    getDiskUsage: answering(async () => {
      const { items, freeBytes, totalBytes, isVerifying, verifiedAtMs } = await manager.diskUsage();
      return {
        items: items.map(diskItemToWire),
        freeBytes: BigInt(freeBytes),
        totalBytes: BigInt(totalBytes),
        verifying: isVerifying,
        verifiedAtMs: BigInt(verifiedAtMs ?? 0),
      };
    }),
    verifyDisk: answering(async () => {
      manager.verifyDisk();
      return {};
    }),
  };
  return (router) => {
    router.service(HostService, service);
  };
}

/** Wraps one method so that whatever it throws becomes a ConnectError with our detail. */
function answering<I, O>(method: (request: I, context: HandlerContext) => Promise<O>) {
  return async (request: I, context: HandlerContext): Promise<O> => {
    try {
      return await method(request, context);
    } catch (error) {
      throw toRpcError(error);
    }
  };
}

function toWire(sandbox: SandboxInfo) {
  return create(SandboxSchema, {
    sandboxId: sandbox.sandboxId,
    templateId: sandbox.templateId,
    state: WIRE_STATES[sandbox.state],
    vcpuCount: sandbox.vcpuCount,
    memoryMib: sandbox.memoryMib,
    diskMib: sandbox.diskMib,
    createdAtMs: BigInt(sandbox.createdAtMs),
    envdVersion: sandbox.envdVersion,
    reason: sandbox.reason ?? '',
    pausedMemory: sandbox.pausedMemory,
    damage: sandbox.damage ?? '',
  });
}

function sampleToWire(sample: MetricSample) {
  return create(GetSandboxMetricsResponseSchema, {
    timestampMs: BigInt(sample.timestampMs),
    cpuCount: sample.cpuCount,
    cpuUsedPct: sample.cpuUsedPct,
    memUsedBytes: BigInt(sample.memUsedBytes),
    memTotalBytes: BigInt(sample.memTotalBytes),
    memCacheBytes: BigInt(sample.memCacheBytes),
    diskUsedBytes: BigInt(sample.diskUsedBytes),
    diskTotalBytes: BigInt(sample.diskTotalBytes),
  });
}

function withStages({ result, stages }: Traced<SandboxInfo>) {
  return { sandbox: toWire(result), stages: [...stages] };
}

function outcomeToWire(outcome: ForkOutcome) {
  if ('sandbox' in outcome) return { outcome: { case: 'sandbox', value: toWire(outcome.sandbox) } as const };
  const { code, message } = outcome.error;
  return { outcome: { case: 'failure', value: { code, message } } as const };
}

function diskItemToWire({ kind, id, name, ownBytes, sharedBytes, memoryBytes, diskBytes, damage }: DiskItem) {
  return {
    kind,
    id,
    name,
    ownBytes: BigInt(ownBytes),
    sharedBytes: BigInt(sharedBytes),
    memoryBytes: BigInt(memoryBytes),
    diskBytes: BigInt(diskBytes),
    damage: damage ?? '',
  };
}

function templateToWire(template: ListedTemplate, warmSandboxIds: readonly string[]) {
  return {
    templateId: template.templateId,
    names: template.names,
    vcpuCount: template.vcpuCount,
    memoryMib: template.memoryMib,
    diskMib: template.diskMib,
    envdVersion: ENVD_VERSION,
    createdAtMs: BigInt(template.createdAtMs),
    originSandboxId: template.originSandboxId ?? '',
    hasMemory: template.snapshot !== undefined,
    damage: template.damage ?? '',
    warmSandboxIds: [...warmSandboxIds],
  };
}
