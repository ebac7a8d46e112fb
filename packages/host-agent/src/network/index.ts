export type { NetworkSlot, ReconcileReport, SandboxNetworks } from './network.ts';
export { type NetworkCheck, networkChecks } from './network-checks.ts';
export { createSandboxNetworks, type SandboxNetworksOptions } from './sandbox-networks.ts';
export { slotPlan, tapOwnerUid } from './slot.ts';
