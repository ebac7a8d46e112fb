export { parseOpenedRanges } from './closed-ranges.ts';
export type { NetworkSlot, ReconcileReport, SandboxNetworks, SlotNetworks } from './network.ts';
export { type NetworkCheck, networkChecks } from './network-checks.ts';
export { createSandboxNetworks, type SandboxNetworksOptions } from './sandbox-networks.ts';
export { slotPlan, tapOwnerUid } from './slot.ts';
export { type AnsweredAddress, CLOSED_RULES, OPEN_RULES, type SlotRules } from './slot-rules.ts';
