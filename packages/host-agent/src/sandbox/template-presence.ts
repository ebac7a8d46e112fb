import type { Template } from '../storage/template-store.ts';
import type { HostState } from './host-state.ts';

/** Whether a template that was listed is there still. Its files go with it, and with the snapshot that another one takes the place of. */
export async function isTemplateThere(
  { context }: HostState,
  { templateId, createdAtMs, snapshot }: Template,
): Promise<boolean> {
  const { templates } = await context.templates.list();
  return templates.some(
    (now) => now.templateId === templateId && now.createdAtMs === createdAtMs && now.snapshot === snapshot,
  );
}
