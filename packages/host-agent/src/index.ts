export type { HostAgent, HostAgentConfig, HostDescription, HostLimits } from './host-agent.ts';
export { startHostAgent } from './host-agent.ts';
export { hostRoutes } from './rpc/host-routes.ts';
export type {
  SandboxEvent,
  SandboxInfo,
  SandboxManager,
  SandboxMetrics,
  SandboxSpec,
  SandboxState,
  SandboxTarget,
  StopOptions,
} from './sandbox/sandbox.ts';
