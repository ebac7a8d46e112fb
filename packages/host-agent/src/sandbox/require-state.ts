import { NestboxError } from '@nestbox/contract';
import type { RunningVm, Stall } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';

/**
 * The VM of a sandbox that runs, for a verb that needs one. Throws sandbox_paused, sandbox_stopping, sandbox_unreachable
 * (it does not run yet, changes just now, or its VMM does not answer), host_disk_full (it stands still for want of room).
 */
export function requireRunningVm(sandbox: LiveSandbox): RunningVm {
  const { lifecycle } = sandbox;
  switch (lifecycle.state) {
    case 'running':
      if (lifecycle.stall === undefined) return lifecycle.vm;
      throw standsStill(sandbox.id, lifecycle.stall);
    case 'paused':
      throw new NestboxError(
        'sandbox_paused',
        `Sandbox ${sandbox.id} is paused. Connect to it to let it go on, then ask again.`,
      );
    case 'stopping':
    case 'gone':
      throw new NestboxError('sandbox_stopping', `Sandbox ${sandbox.id} is ending: ${lifecycle.reason}`);
    case 'starting':
    case 'pausing':
    case 'resuming':
      throw new NestboxError('sandbox_unreachable', `Sandbox ${sandbox.id} is ${lifecycle.state}.`);
  }
}

export function standsStill(sandboxId: string, { code, reason }: Stall): NestboxError {
  return new NestboxError(code, `Sandbox ${sandboxId} stands still: ${reason}`);
}
