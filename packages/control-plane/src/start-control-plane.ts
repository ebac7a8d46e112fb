import { NestboxError } from '@nestbox/contract';
import type { ControlPlane, ControlPlaneConfig } from './config.ts';

/** Opens the database, the control API and the edge, and begins to watch the hosts. Rejects with NestboxError. */
export function startControlPlane(_config: ControlPlaneConfig): Promise<ControlPlane> {
  return Promise.reject(new NestboxError('not_supported', 'The control plane is being built.'));
}
