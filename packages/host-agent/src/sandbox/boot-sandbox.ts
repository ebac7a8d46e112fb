import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { ENVD_VERSION, NestboxError } from '@nestbox/contract';
import type { GuestClient } from '../guest/guest-client.ts';
import { GuestError } from '../guest/guest-error.ts';
import type { NetworkSlot } from '../network/network.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import { createOverlay } from '../storage/overlay.ts';
import type { Template } from '../storage/template-store.ts';
import type { VmHandle, VmSpec } from '../vmm/driver.ts';
import { attempt, removeFiles } from './clean-up.ts';
import type { RunningVm } from './lifecycle.ts';
import type { SandboxIdentity } from './live-sandbox.ts';
import type { SandboxRecord } from './record.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { toSandboxError, withConsoleTail } from './sandbox-error.ts';

export interface BootRequest {
  readonly identity: SandboxIdentity;
  readonly template: Template;
  readonly images: CurrentImages;
}

/** Its own limit, apart from the boot's: the agent answers already. */
const INIT_TIMEOUT_MS = 30_000;
const EXIT_NOTICE_MS = 1000;

/**
 * From nothing to an initialised guest agent: folders, network, disk, record, VM, agent. On any failure everything is
 * undone, the VM before its disk. Throws NestboxError; an abort throws the signal's reason.
 */
export async function bootSandbox(
  context: SandboxContext,
  request: BootRequest,
  signal: AbortSignal,
): Promise<RunningVm> {
  const { layout, networks, records, driver } = context;
  const { identity, template } = request;
  const { spec } = identity;
  const { sandboxId } = spec;
  await using undo = new AsyncDisposableStack();
  try {
    await mkdir(layout.sandboxDir(sandboxId), { recursive: true, mode: 0o700 });
    undo.defer(() => removeFiles(context, sandboxId));
    await mkdir(layout.sandboxRunDir(sandboxId), { recursive: true, mode: 0o700 });

    const slot = await networks.acquire(signal);
    undo.defer(() => attempt(context, sandboxId, 'removing the network', () => networks.release(slot)));

    const record = firstRecord(request, slot);
    const disk = { path: layout.sandboxDisk(sandboxId), backingPath: template.rootfsPath };
    await allSettled([
      networks.setInternetAccess(slot, spec.allowInternetAccess),
      createOverlay(disk, signal),
      records.write(sandboxId, record),
    ]);

    const vmSpec = vmSpecOf(context, request, slot);
    using boot = bootDeadline(sandboxId, context.limits.bootTimeoutMs, signal);
    const handle = await driver.start(vmSpec, boot.signal);
    undo.defer(() => attempt(context, sandboxId, 'ending the VM', () => driver.destroy(handle)));
    await records.write(sandboxId, { ...record, vm: handle });

    const guest = context.guestClient({ address: slot.hostReachableAddress, accessToken: spec.accessToken });
    undo.defer(() => guest.close());
    const envdVersion = await bringUpAgent(context, { request, guest, handle, boot });

    await records.write(sandboxId, { ...record, vm: handle, envdVersion, state: 'running' });
    signal.throwIfAborted();
    undo.move();
    return { handle, slot, guest, envdVersion };
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    // Read now: the clean-up that follows removes the console with the folder.
    throw await withConsoleTail(toSandboxError(error, sandboxId), layout.sandboxConsole(sandboxId));
  }
}

interface AgentBringUp {
  readonly request: BootRequest;
  readonly guest: GuestClient;
  readonly handle: VmHandle;
  readonly boot: BootDeadline;
}

/** Waits for the guest agent and tells it who it is. A VM that dies meanwhile ends the wait. Answers its envd version. */
async function bringUpAgent(
  { driver, limits }: SandboxContext,
  { request, guest, handle, boot }: AgentBringUp,
): Promise<string> {
  const { identity, template } = request;
  const { spec } = identity;
  const exited = new AbortController();
  const stopWatching = driver.onExit(handle, (reason) =>
    exited.abort(
      new NestboxError('vm_died', `The VM of sandbox ${spec.sandboxId} ended while it was starting: ${reason}`),
    ),
  );
  const ready = AbortSignal.any([boot.signal, exited.signal]);
  try {
    await guest.waitUntilReady(limits.bootTimeoutMs, ready);
    // The boot's limit is kept; the rest has a limit of its own.
    boot.clear();
    const answer = await guest.init(
      {
        sandboxId: spec.sandboxId,
        templateId: identity.templateId,
        envVars: { ...template.envVars, ...spec.envVars },
        defaultUser: template.defaultUser,
        ...(template.defaultWorkdir === undefined ? {} : { defaultWorkdir: template.defaultWorkdir }),
      },
      AbortSignal.any([ready, AbortSignal.timeout(INIT_TIMEOUT_MS)]),
    );
    ready.throwIfAborted();
    return answer.envdVersion ?? ENVD_VERSION;
  } catch (error) {
    if (error instanceof GuestError && error.kind === 'unreachable') await noticed(exited.signal);
    if (ready.aborted) throw ready.reason;
    if (error instanceof GuestError && error.kind === 'deadline')
      throw bootTimeout(spec.sandboxId, limits.bootTimeoutMs);
    if (error instanceof GuestError && error.kind === 'aborted')
      throw new NestboxError(
        'boot_timeout',
        `The guest agent of sandbox ${spec.sandboxId} answered, but did not take its settings within ${INIT_TIMEOUT_MS} ms.`,
        { cause: error },
      );
    throw error;
  } finally {
    stopWatching();
  }
}

/** A VM that dies closes its connections first; its exit, which explains them, is noticed a moment later. */
async function noticed(exited: AbortSignal): Promise<void> {
  if (exited.aborted) return;
  await Promise.race([once(exited, 'abort'), delay(EXIT_NOTICE_MS)]);
}

function bootTimeout(sandboxId: string, limitMs: number): NestboxError {
  return new NestboxError('boot_timeout', `The guest of sandbox ${sandboxId} was not ready within ${limitMs} ms.`);
}

interface BootDeadline extends Disposable {
  /** Aborted by the caller's signal too. */
  readonly signal: AbortSignal;
  clear(): void;
}

function bootDeadline(sandboxId: string, limitMs: number, signal: AbortSignal): BootDeadline {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(bootTimeout(sandboxId, limitMs)), limitMs);
  const clear = () => clearTimeout(timer);
  return { signal: AbortSignal.any([signal, limit.signal]), clear, [Symbol.dispose]: clear };
}

/** All steps end before one's failure is told, so that nothing is made any more while the undo runs. */
async function allSettled(steps: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(steps)) if (result.status === 'rejected') throw result.reason;
}

function firstRecord({ identity, images }: BootRequest, slot: NetworkSlot): SandboxRecord {
  const { spec, ...rest } = identity;
  return {
    format: 1,
    sandboxId: spec.sandboxId,
    requestedTemplate: spec.templateId,
    ...rest,
    state: 'starting',
    envVars: { ...spec.envVars },
    ...(spec.accessToken === undefined ? {} : { accessToken: spec.accessToken }),
    allowInternetAccess: spec.allowInternetAccess,
    envdVersion: ENVD_VERSION,
    slot: {
      index: slot.index,
      netnsName: slot.netnsName,
      tapName: slot.tapName,
      guestMac: slot.guestMac,
      guestAddress: slot.guestAddress,
      hostReachableAddress: slot.hostReachableAddress,
    },
    agentDiskHash: images.agentDiskHash,
    kernelVersion: images.kernelVersion,
  };
}

function vmSpecOf({ layout }: SandboxContext, { identity, images }: BootRequest, slot: NetworkSlot): VmSpec {
  const { sandboxId } = identity.spec;
  return {
    sandboxId,
    vcpuCount: identity.vcpuCount,
    memoryMib: identity.memoryMib,
    kernelPath: images.kernelPath,
    initrdPath: images.initrdPath,
    kernelArgs: [],
    disks: [
      { path: layout.sandboxDisk(sandboxId), format: 'qcow2', readOnly: false },
      { path: images.agentDiskPath, format: 'raw', readOnly: true },
    ],
    network: { netnsName: slot.netnsName, tapName: slot.tapName, guestMac: slot.guestMac },
    runDir: layout.sandboxRunDir(sandboxId),
    consolePath: layout.sandboxConsole(sandboxId),
  };
}
