import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { ENVD_VERSION, NestboxError } from '@nestbox/contract';
import type { GuestClient } from '../guest/guest-client.ts';
import { GuestError } from '../guest/guest-error.ts';
import type { VmHandle } from '../vmm/driver.ts';
import { type BootDeadline, bootTimeout } from './boot-deadline.ts';
import type { SandboxIdentity } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Trace } from './trace.ts';

export interface AgentBringUp {
  readonly identity: SandboxIdentity;
  readonly guest: GuestClient;
  readonly handle: VmHandle;
  readonly boot: BootDeadline;
  /** Of the wait for a booting guest. */
  readonly limitMs: number;
  /** A restored guest's agent listens already; its vCPUs begin when this is called. */
  readonly resume: (() => Promise<void>) | undefined;
}

/** Its own limit, apart from the boot's: the agent answers already. */
const INIT_TIMEOUT_MS = 30_000;
const EXIT_NOTICE_MS = 1000;

/** Waits for the guest agent and tells it who it is. A VM that dies meanwhile ends the wait. Answers its envd version. */
export async function bringUpAgent(context: SandboxContext, bringUp: AgentBringUp, trace: Trace): Promise<string> {
  const { driver } = context;
  const { identity, guest, handle, boot, limitMs, resume } = bringUp;
  const { sandboxId } = identity.spec;
  const exited = new AbortController();
  const stopWatching = driver.onExit(handle, (reason) =>
    exited.abort(new NestboxError('vm_died', `The VM of sandbox ${sandboxId} ended while it was starting: ${reason}`)),
  );
  const ready = AbortSignal.any([boot.signal, exited.signal]);
  try {
    let answer: { readonly envdVersion: string | undefined };
    if (resume === undefined) {
      await trace.measure('agent', () => guest.waitUntilReady(limitMs, ready));
      // The boot's limit is kept; the rest has a limit of its own.
      boot.clear();
      answer = await trace.measure('init', () => initialise(identity, guest, ready));
    } else {
      // The request is on its way while the vCPUs begin: it waits in the TAP's queue.
      const resumed = trace.measure('resume', resume);
      // A guest that stands still would keep the request waiting.
      resumed.catch((error: unknown) => exited.abort(error));
      answer = await trace.measure('init', () => initialiseRestored(identity, guest, ready));
      await resumed;
    }
    ready.throwIfAborted();
    return answer.envdVersion ?? ENVD_VERSION;
  } catch (error) {
    if (error instanceof GuestError && error.kind === 'unreachable') await noticed(exited.signal);
    if (ready.aborted) throw ready.reason;
    if (error instanceof GuestError && error.kind === 'deadline') throw bootTimeout(sandboxId, limitMs);
    if (error instanceof GuestError && error.kind === 'aborted')
      throw new NestboxError(
        'boot_timeout',
        `The guest agent of sandbox ${sandboxId} did not take its settings within ${INIT_TIMEOUT_MS} ms.`,
        { cause: error },
      );
    throw error;
  } finally {
    stopWatching();
  }
}

/** The kernel hears up to a second late that a TAP has got its VMM when many come at once, and refuses the way until then. */
const INIT_RETRY_FOR_MS = 5000;
const FIRST_RETRY_MS = 5;
const LAST_RETRY_MS = 100;

/**
 * Asks again when there is no way to the guest yet, or when it cut the connection: one that was copied in the middle of its last
 * /init goes on with it, closes the connections that came before, and may take ours for one of them. Every /init begins a
 * new life, so a second one does no harm.
 */
async function initialiseRestored(identity: SandboxIdentity, guest: GuestClient, ready: AbortSignal) {
  const retryUntil = performance.now() + INIT_RETRY_FOR_MS;
  for (let retryMs = FIRST_RETRY_MS; ; retryMs = Math.min(LAST_RETRY_MS, retryMs * 2)) {
    try {
      return await initialise(identity, guest, ready);
    } catch (error) {
      const mayPass = error instanceof GuestError && error.kind === 'unreachable';
      if (!mayPass || ready.aborted || performance.now() > retryUntil) throw error;
      await delay(retryMs, undefined, { signal: ready });
    }
  }
}

/** Tells the guest agent who it is. */
export function initialise(identity: SandboxIdentity, guest: GuestClient, ready: AbortSignal) {
  const { spec, templateId } = identity;
  const { envVars, defaultUser, defaultWorkdir } = identity.guest;
  return guest.init(
    {
      sandboxId: spec.sandboxId,
      templateId,
      envVars: { ...envVars, ...spec.envVars },
      defaultUser,
      ...(defaultWorkdir === undefined ? {} : { defaultWorkdir }),
    },
    AbortSignal.any([ready, AbortSignal.timeout(INIT_TIMEOUT_MS)]),
  );
}

/** A VM that dies closes its connections first; its exit, which explains them, is noticed a moment later. */
async function noticed(exited: AbortSignal): Promise<void> {
  if (exited.aborted) return;
  await Promise.race([once(exited, 'abort'), delay(EXIT_NOTICE_MS)]);
}
