import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createGuestClient } from '../guest/guest-client.ts';
import { type Lifecycle, LifecycleCell } from './lifecycle.ts';
import type { SandboxState } from './sandbox.ts';

const vm = {
  handle: { vmId: 'i1', vmm: 'fake', process: { pid: 1, startTicks: 1 }, runDir: '/run/x', cgroup: undefined },
  slot: { index: 1, netnsName: 'n', tapName: 't', guestMac: 'm', guestAddress: 'g', hostReachableAddress: 'h' },
  guest: createGuestClient({ address: '127.0.0.1', accessToken: undefined }),
  machine: { layers: ['disk-00000000.qcow2'], kernelVersion: 'k', agentDiskHash: 'a', envdVersion: '0' },
} as const;
const paused = {
  machine: vm.machine,
  memory: true,
  disk: { layers: vm.machine.layers.slice(), topBytes: 0, topModifiedMs: 0 },
  pausedAtMs: 0,
  damage: undefined,
} as const;

const STATES: Record<SandboxState, Lifecycle> = {
  starting: { state: 'starting' },
  running: { state: 'running', vm, stall: undefined },
  pausing: { state: 'pausing', vm },
  paused: { state: 'paused', paused },
  resuming: { state: 'resuming', paused },
  stopping: { state: 'stopping', reason: 'r', remains: undefined },
  gone: { state: 'gone', reason: 'r' },
};

const ALLOWED = [
  'starting running',
  'starting stopping',
  'starting gone',
  'running running',
  'running pausing',
  'running stopping',
  'pausing running',
  'pausing paused',
  'pausing stopping',
  'paused paused',
  'paused resuming',
  'paused stopping',
  'resuming running',
  'resuming paused',
  'resuming stopping',
  'stopping gone',
];

test('a sandbox goes only the ways that the table has, and each is told', () => {
  for (const from of Object.values(STATES))
    for (const to of Object.values(STATES)) {
      let told = 0;
      const cell = new LifecycleCell(from, () => {
        told += 1;
      });
      const go = () => cell.transition(to);
      if (ALLOWED.includes(`${from.state} ${to.state}`)) {
        go();
        assert.equal(cell.current, to);
        assert.equal(told, 1);
      } else {
        assert.throws(go, (error: unknown) => error instanceof NestboxError && error.code === 'internal');
        assert.equal(cell.current, from);
        assert.equal(told, 0);
      }
    }
});
