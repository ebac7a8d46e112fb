import type { SandboxRecord } from '../store/sandbox-record.ts';

export const T0 = 1_700_000_000_000;
export const TEAM = { teamId: 'team-1' };
export const OTHER_TEAM = { teamId: 'team-2' };

export function record(id: string, overrides: Partial<SandboxRecord> = {}): SandboxRecord {
  return {
    id,
    teamId: TEAM.teamId,
    state: 'starting',
    hostId: 'host-1',
    templateId: 'tpl',
    alias: 'base',
    metadata: undefined,
    vcpuCount: 2,
    memoryMib: 512,
    diskMib: 4096,
    envdVersion: '0.6.13',
    createdAtMs: T0,
    startedAtMs: T0,
    endAtMs: T0 + 60_000,
    secure: true,
    allowInternetAccess: undefined,
    allowPublicTraffic: true,
    network: undefined,
    autoPause: false,
    autoPauseMemory: true,
    autoResume: false,
    timeoutSec: 60,
    pausedMemory: undefined,
    owner: undefined,
    revision: 0,
    ...overrides,
  };
}
