import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyedMutex } from '@nestbox/kit';
import { freeBytes } from '../storage/disk-space.ts';
import type { VmHandle, VmStatus } from '../vmm/driver.ts';
import type { Stall } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** How often the host's free space is looked at, a cheap call. */
const INTERVAL_MS = 3000;
/** A VMM stops its guest when a write finds no space; with this much free there is mostly no reason to ask each one. */
const LOW_SPACE_BYTES = 1024 * 2 ** 20;
/** In one round of so many all are asked: a disk may have been full, or have failed, between two rounds. */
const ROUNDS_BETWEEN_ALL = 10;
/** A stalled guest goes on once this much is free again. */
const RESUME_SPACE_BYTES = 128 * 2 ** 20;
/** A guest that goes on tries at once again what it could not write. */
const RETRY_MS = 200;

type FreeSpace = () => Promise<number>;
type Watched = Pick<SandboxContext, 'driver' | 'logger' | 'telemetry' | 'layout'>;

/**
 * Finds guests that their VMM holds still because the host's disk is full, and lets them go on when there is room; those whose VMM did
 * not answer when they were to go on (see `let-go-on.ts`) go on when it does. Each is
 * looked at in its turn: whoever pauses it again and again cannot keep it from being seen, and none goes on while it is copied.
 * Call the returned function to end it; it answers when no look is under way.
 */
export function watchForStalls(
  { context, serial }: { readonly context: Watched; readonly serial: KeyedMutex },
  present: () => Iterable<LiveSandbox>,
  { intervalMs = INTERVAL_MS, free = () => freeSpace(context) }: { intervalMs?: number; free?: FreeSpace } = {},
): () => Promise<void> {
  const looks = new Map<string, Promise<void>>();
  let rounds = 0;
  const lookAround = async () => {
    const isLow = (await free()) < LOW_SPACE_BYTES || rounds % ROUNDS_BETWEEN_ALL === 0;
    rounds += 1;
    for (const sandbox of present()) {
      if (looks.has(sandbox.id) || !isInQuestion(sandbox, isLow)) continue;
      const look = serial.run(sandbox.id, () => lookForStall(context, sandbox, free));
      looks.set(
        sandbox.id,
        look.finally(() => looks.delete(sandbox.id)),
      );
    }
  };
  let round: Promise<void> | undefined;
  const timer = setInterval(() => {
    round ??= lookAround()
      .catch((error: unknown) => context.logger.error({ err: error }, 'looking for stalled VMs failed'))
      .finally(() => {
        round = undefined;
      });
  }, intervalMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await round;
    await Promise.all(looks.values());
  };
}

/** One that is being paused may come out of that as one that runs. */
function isInQuestion({ lifecycle }: LiveSandbox, isLow: boolean): boolean {
  if (lifecycle.state === 'running') return isLow || lifecycle.stall !== undefined;
  return isLow && lifecycle.state === 'pausing';
}

/** For whoever is about to save a sandbox, and asks for a running one after this: it need not wait for the next round. */
export async function lookBeforeSave(
  context: Watched,
  sandbox: LiveSandbox,
  free = () => freeSpace(context),
): Promise<void> {
  if ((await free()) < LOW_SPACE_BYTES) await lookForStall(context, sandbox, free);
}

/**
 * One look: what the VMM of a running sandbox says is noted, and a guest that stands still goes on when there is room. Never
 * rejects. Alone with its sandbox id.
 */
export async function lookForStall(
  context: Watched,
  sandbox: LiveSandbox,
  free = () => freeSpace(context),
): Promise<void> {
  try {
    await lookAt(context, sandbox, free);
  } catch (error) {
    // A VM that is gone is told by its exit; one that does not answer is asked again next time.
    const level = isUnanswering(sandbox) ? 'debug' : 'warn';
    context.logger[level]({ err: error, sandboxId: sandbox.id }, 'the state of a VM could not be read');
  }
}

function freeSpace({ layout }: Watched): Promise<number> {
  return freeBytes(layout.sandboxesDir);
}

async function lookAt(context: Watched, sandbox: LiveSandbox, free: FreeSpace): Promise<void> {
  const { lifecycle } = sandbox;
  if (lifecycle.state !== 'running') return;
  const { driver } = context;
  const { handle } = lifecycle.vm;
  const status = await driver.status(handle);
  note(context, sandbox, handle, status);
  // It answers again, and may have carried out a stop that was given up. In its turn nobody else has stopped it.
  const isLeftPaused = status.state === 'paused' && isUnanswering(sandbox);
  if (!isLeftPaused && (status.state !== 'stalled' || (await free()) < RESUME_SPACE_BYTES)) return;
  await driver.resume(handle);
  await sleep(RETRY_MS);
  note(context, sandbox, handle, await driver.status(handle));
}

/** Of a VMM that holds its guest still. */
export function stallOf({ reason }: Extract<VmStatus, { state: 'stalled' }>): Stall {
  return { code: 'host_disk_full', reason };
}

function isUnanswering({ lifecycle }: LiveSandbox): boolean {
  return lifecycle.state === 'running' && lifecycle.stall?.code === 'sandbox_unreachable';
}

function note({ logger, telemetry }: Watched, sandbox: LiveSandbox, handle: VmHandle, status: VmStatus): void {
  // It may have ended while the VMM was asked, or got a disk with another layer.
  const { lifecycle } = sandbox;
  if (lifecycle.state !== 'running' || lifecycle.vm.handle !== handle) return;
  const { stall } = lifecycle;
  const { id } = sandbox;
  if (status.state === 'stalled' && stall === undefined) {
    logger.warn({ sandboxId: id, reason: status.reason }, 'a VM stands still until its disk can be written');
    sandbox.transition({ ...lifecycle, stall: stallOf(status) });
    void telemetry.note(id, 'warn', `Sandbox stands still: ${status.reason}`);
  } else if (status.state === 'running' && stall !== undefined) {
    logger.info({ sandboxId: id }, 'a VM goes on after it stood still');
    sandbox.transition({ ...lifecycle, stall: undefined });
    // What was told at the beginning may have found no room either.
    void telemetry.note(id, 'warn', `Sandbox goes on. It stood still: ${stall.reason}`);
  }
}
