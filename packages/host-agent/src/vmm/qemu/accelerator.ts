import type { KvmAnswer } from './probe.ts';

/** How guests run here. */
export type QemuAccelerator =
  | { readonly kind: 'tcg'; readonly translationBufferMib: number }
  | { readonly kind: 'kvm'; readonly cpuModel: string };

/** `auto`: KVM when a probe guest runs under it, else TCG. */
export type WantedAccelerator = 'auto' | 'kvm' | 'tcg';

/** What `nestbox doctor` says, in plain words. */
export function describeAccelerator(
  wanted: WantedAccelerator,
  kvm: KvmAnswer,
): { readonly accelerator: 'kvm' | 'tcg'; readonly reason: string } {
  if (wanted === 'tcg') return { accelerator: 'tcg', reason: 'Software emulation (TCG) was asked for.' };
  if (kvm.works) return { accelerator: 'kvm', reason: kvm.reason };
  if (wanted === 'kvm') return { accelerator: 'kvm', reason: `KVM was asked for, but: ${kvm.reason}` };
  return { accelerator: 'tcg', reason: `Software emulation (TCG), since KVM cannot be used: ${kvm.reason}` };
}
