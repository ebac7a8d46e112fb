import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostAgentOptions } from './host-agent-options.ts';

test('words of the command line become options of the host agent, and what is not said is left to it', () => {
  assert.deepEqual(hostAgentOptions({ vmm: 'auto', snapshots: true }), { vmm: 'auto', useSnapshots: true, limits: {} });
  const warm = [{ templateId: 'base', count: 2 }];
  assert.deepEqual(
    hostAgentOptions({ vmm: 'qemu', snapshots: false, warm, maxSnapshots: 0, maxSnapshotGib: 1.5, scrubHours: 2 }),
    {
      vmm: 'qemu',
      useSnapshots: false,
      warm,
      scrub: { intervalMs: 7_200_000 },
      limits: { maxSnapshots: 0, maxSnapshotBytes: 1_610_612_736 },
    },
  );
  const { allowPrivate } = hostAgentOptions({ vmm: 'auto', snapshots: true, allowPrivate: ['10.1.2.0/24'] });
  assert.deepEqual(allowPrivate, ['10.1.2.0/24']);
});
