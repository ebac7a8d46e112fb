export type { HostDescription } from './describe-host.ts';
export type { HostAgent, HostAgentConfig } from './host-agent.ts';
export { startHostAgent } from './host-agent.ts';
export { hostRoutes } from './rpc/host-routes.ts';
export type { HostLimits } from './sandbox/host-limits.ts';
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
export { prepareTemplates, type TemplatePreparation } from './template-preparation.ts';
