export { BASE_TEMPLATE_ID } from './base-template.ts';
export { checkSetup, type SetupCheck } from './check-setup.ts';
export { makeTemplate, type TemplateSpec } from './make-template.ts';
export { setUp } from './set-up.ts';
export {
  type AgentBundle,
  type MissingPart,
  SETUP_STEPS,
  type SetUpOptions,
  type SetupProgress,
  type SetupStep,
} from './setup-types.ts';
