import type { Template } from '@nestbox/contract/host';
import type { SnapshotInfo } from '@nestbox/contract/http';
import { DEFAULT_TAG, fullName, readTemplateName } from './template-name.ts';

/** A snapshot as the wire shows it: by its name, or by its id when it has none. */
export function describeSnapshot({ templateId, names, damage }: Template): SnapshotInfo {
  const full = names.map((name) => fullName(readTemplateName(name)));
  const snapshotID = full[0] ?? fullName({ base: templateId, tag: DEFAULT_TAG });
  return { snapshotID, names: full, ...(damage === '' ? {} : { damage }) };
}
