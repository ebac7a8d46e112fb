import { type ErrorCode, NestboxError } from '@nestbox/contract';
import type { GuestClient } from '../guest/guest-client.ts';
import type { NetworkSlot } from '../network/network.ts';
import type { DiskSeal } from '../storage/snapshot-manifest.ts';
import type { VmHandle } from '../vmm/driver.ts';
import type { SandboxState } from './sandbox.ts';

/** What a sandbox's VM was made of; the folder is the sandbox's own. */
export interface Machine {
  /** Root disk, top layer first. */
  readonly layers: readonly string[];
  readonly kernelVersion: string;
  readonly agentDiskHash: string;
  /** What the guest agent said it speaks. */
  readonly envdVersion: string;
}

/** What belongs to a sandbox whose guest agent answered. */
export interface RunningVm {
  readonly handle: VmHandle;
  readonly slot: NetworkSlot;
  readonly guest: GuestClient;
  readonly machine: Machine;
}

/** A sandbox that is on the disk alone. */
export interface PausedVm {
  readonly machine: Machine;
  /** False: resuming boots from the disk. */
  readonly memory: boolean;
  readonly disk: DiskSeal;
  readonly pausedAtMs: number;
  /** What is known to be damaged of it, in plain words; found out again after a restart. */
  readonly damage: string | undefined;
  /** True: its record is damaged, so nothing else of this is known. It can be ended, and no more. */
  readonly isRecordDamaged?: boolean;
}

/** Why the guest of a running sandbox stands still until something outside it is mended. */
export interface Stall {
  /** What requests are refused with meanwhile: the host's disk is full, or the VMM does not answer. */
  readonly code: Extract<ErrorCode, 'host_disk_full' | 'sandbox_unreachable'>;
  /** In plain words. */
  readonly reason: string;
}

/** Where a sandbox is in its life, with what exists only there. */
export type Lifecycle =
  | { readonly state: 'starting' }
  | { readonly state: 'running'; readonly vm: RunningVm; readonly stall: Stall | undefined }
  | { readonly state: 'pausing'; readonly vm: RunningVm }
  | { readonly state: 'paused'; readonly paused: PausedVm }
  | { readonly state: 'resuming'; readonly paused: PausedVm }
  /** `remains`: what a running one leaves to be removed. One that was starting removes its own. */
  | { readonly state: 'stopping'; readonly reason: string; readonly remains: RunningVm | undefined }
  | { readonly state: 'gone'; readonly reason: string };

/**
 * Every way from one state to another. `running` to itself is a stall that begins or ends, or a disk with another layer;
 * `paused` to itself a disk with fewer, or damage that was found.
 */
const TRANSITIONS: Record<SandboxState, readonly SandboxState[]> = {
  starting: ['running', 'stopping', 'gone'],
  running: ['running', 'pausing', 'stopping'],
  pausing: ['running', 'paused', 'stopping'],
  paused: ['paused', 'resuming', 'stopping'],
  resuming: ['running', 'paused', 'stopping'],
  stopping: ['gone'],
  gone: [],
};

/** Holds the state of one sandbox; nothing else writes it. */
export class LifecycleCell {
  #current: Lifecycle;
  readonly #onChange: () => void;

  constructor(initial: Lifecycle, onChange: () => void) {
    this.#current = initial;
    this.#onChange = onChange;
  }

  get current(): Lifecycle {
    return this.#current;
  }

  /** Throws NestboxError internal for a way that the table does not have. */
  transition(next: Lifecycle): void {
    const { state } = this.#current;
    if (!TRANSITIONS[state].includes(next.state))
      throw new NestboxError('internal', `A sandbox cannot go from ${state} to ${next.state}.`);
    this.#current = next;
    this.#onChange();
  }
}
