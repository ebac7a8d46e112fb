export type { ControlPlane, ControlPlaneConfig, HostConnection, ListenAddress, ProxyAddress } from './config.ts';
export type { AuditLimits } from './service/audit-trail.ts';
export { joinInstallation } from './service/join-installation.ts';
export type { InstallationSecrets } from './service/sealed-secrets.ts';
export { startControlPlane } from './start-control-plane.ts';
export { takeStoreLocation } from './store/open-store.ts';
