export type { ControlPlane, ControlPlaneConfig, HostConnection, ListenAddress, ProxyAddress } from './config.ts';
export { startControlPlane } from './start-control-plane.ts';
