import type { HostLayout } from '../storage/layout.ts';
import { TemplateStore } from '../storage/template-store.ts';

/** Whether a template is there and whole. */
export async function hasTemplate(layout: HostLayout, templateId: string): Promise<boolean> {
  const { templates } = await new TemplateStore(layout).list();
  return templates.some((template) => template.templateId === templateId);
}
