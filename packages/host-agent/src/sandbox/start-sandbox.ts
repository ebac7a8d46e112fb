import { NestboxError } from '@nestbox/contract';
import type { CurrentImages } from '../storage/images-file.ts';
import type { Template } from '../storage/template-store.ts';
import { removeFiles } from './clean-up.ts';
import type { CreatePlan } from './create-plan.ts';
import { createMachine } from './create-sandbox.ts';
import { requireCapacity } from './host-limits.ts';
import type { HostState } from './host-state.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox, SandboxIdentity } from './live-sandbox.ts';
import type { SandboxInfo, SandboxSpec } from './sandbox.ts';
import { toSandboxError } from './sandbox-error.ts';
import { abandonMachine } from './start-machine.ts';
import { guestSettings } from './template-snapshots.ts';
import type { Trace } from './trace.ts';

/** The whole of a create: a VM that waits for it, else a restore of the template's snapshot, else a boot. Alone with its id. */
export function startSandbox(
  host: HostState,
  spec: SandboxSpec,
  signal: AbortSignal,
  trace: Trace,
): Promise<SandboxInfo> {
  const { context, warm } = host;
  return toRunning(host, spec.sandboxId, signal, trace, async () => {
    const [template, images] = await Promise.all([context.templates.get(spec.templateId), context.currentImages()]);
    const identity = identityOf(spec, template);
    return {
      identity,
      async start(sandbox) {
        const waiting = warm.hasId(spec.sandboxId) ? await warm.claim(identity, template, trace) : undefined;
        if (waiting !== undefined) return waiting;
        await makeRoom(host, identity);
        return startFromTemplate(host, sandbox, template, images, signal, trace);
      },
    };
  });
}

/** A template may be replaced under a create; more often than this in one create it is not. */
const MAX_REPLACEMENTS = 5;

/**
 * A template that somebody replaces takes its files along before a create has links to them. Then the create begins anew, with
 * the template that is there now.
 */
async function startFromTemplate(
  host: HostState,
  sandbox: LiveSandbox,
  first: Template,
  images: CurrentImages,
  signal: AbortSignal,
  trace: Trace,
): Promise<RunningVm> {
  const { context } = host;
  const { spec, createdAtMs } = sandbox.identity;
  let template = first;
  for (let replacements = 0; ; replacements++) {
    try {
      return await startOnce(host, sandbox.identity, template, images, signal, trace);
    } catch (error) {
      if (signal.aborted || replacements >= MAX_REPLACEMENTS) throw error;
      // One that is gone altogether is not found any more, and that is what to say.
      const now = await context.templates.get(template.templateId);
      if (isSame(template, now)) throw error;
      context.logger.info(
        { sandboxId: sandbox.id, templateId: template.templateId },
        'a template was replaced meanwhile',
      );
      template = now;
      sandbox.describe({ ...identityOf(spec, template), createdAtMs });
      await makeRoom(host, sandbox.identity);
    }
  }
}

async function startOnce(
  host: HostState,
  identity: SandboxIdentity,
  template: Template,
  images: CurrentImages,
  signal: AbortSignal,
  trace: Trace,
): Promise<RunningVm> {
  const { context, snapshots } = host;
  const isBuilt = template.originSandboxId === undefined;
  const plan = await trace.measure('snapshot', () => snapshots.plan(template, images, signal, trace));
  try {
    const vm = await launch(host, identity, plan, signal, trace);
    if (plan.how.kind === 'boot' && isBuilt) snapshots.renewInBackground(template);
    return vm;
  } catch (error) {
    if (!(error instanceof NestboxError && error.code === 'snapshot_damaged') || signal.aborted) throw error;
    if (!isSame(template, await context.templates.get(template.templateId))) throw error;
    const fallback = await snapshots.planAfterFailure(template, images, error);
    const vm = await launch(host, identity, fallback, signal, trace);
    if (isBuilt) snapshots.renewInBackground(template);
    return vm;
  }
}

/** Its files are those that they were; a snapshot has another name each time. */
function isSame(a: Template, b: Template): boolean {
  return a.createdAtMs === b.createdAtMs && a.snapshot === b.snapshot;
}

function identityOf(spec: SandboxSpec, template: Template): SandboxIdentity {
  const { templateId, vcpuCount, memoryMib, diskMib } = template;
  const guest = guestSettings(template);
  return { spec, templateId, vcpuCount, memoryMib, diskMib, guest, createdAtMs: Date.now() };
}

/** A copy of a sandbox, by the plan that its fork made. Alone with its id. */
export function startCopy(
  host: HostState,
  identity: SandboxIdentity,
  plan: CreatePlan,
  signal: AbortSignal,
  trace: Trace,
): Promise<SandboxInfo> {
  return toRunning(host, identity.spec.sandboxId, signal, trace, async () => ({
    identity,
    async start() {
      await makeRoom(host, identity);
      return launch(host, identity, plan, signal, trace);
    },
  }));
}

interface Starting {
  readonly identity: SandboxIdentity;
  start(sandbox: LiveSandbox): Promise<RunningVm>;
}

/** The way of every new sandbox through its first states. */
async function toRunning(
  host: HostState,
  sandboxId: string,
  signal: AbortSignal,
  trace: Trace,
  prepare: () => Promise<Starting>,
): Promise<SandboxInfo> {
  const { context, table, vms, counts } = host;
  const { logger } = context;
  let begun: ReturnType<typeof table.add> | undefined;
  try {
    const { identity, start } = await trace.measure('template', prepare);
    signal.throwIfAborted();
    const sandbox = table.add(identity, { state: 'starting' });
    begun = sandbox;
    const vm = await start(sandbox);
    if (signal.aborted) {
      // The destroy came when everything was there already.
      await abandonMachine(context, sandboxId, vm);
      await removeFiles(context, sandboxId);
      throw signal.reason;
    }
    sandbox.transition({ state: 'running', vm, stall: undefined });
    vms.watch(sandbox, vm);
    counts.noteSuccess();
    logger.info({ sandboxId, templateId: identity.templateId, startMs: Math.round(trace.elapsedMs) }, 'a sandbox runs');
    return sandbox.info;
  } catch (error) {
    const known = toSandboxError(error, sandboxId);
    logger.warn({ err: known, sandboxId }, 'a sandbox could not be created');
    if (!signal.aborted) counts.noteFailure();
    if (begun !== undefined) table.remove(begun, known.message);
    throw known;
  }
}

function launch(
  { context, gate }: HostState,
  identity: SandboxIdentity,
  plan: CreatePlan,
  signal: AbortSignal,
  trace: Trace,
): Promise<RunningVm> {
  return gate.run(() => createMachine(context, identity, plan, signal, trace), signal);
}

/**
 * VMs that wait for nobody in particular go before somebody is refused. To be called when the sandbox is in the table already
 * and counts for the others: so of two at once one gets the last place. Throws host_capacity.
 */
export async function makeRoom(
  { context, table, warm }: HostState,
  { spec, memoryMib }: SandboxIdentity,
): Promise<void> {
  for (;;) {
    try {
      const others = table.list().filter(({ sandboxId }) => sandboxId !== spec.sandboxId);
      requireCapacity(context.limits, [...others, ...warm.sizes()], memoryMib);
      return;
    } catch (error) {
      if (!(await warm.evict())) throw error;
    }
  }
}
