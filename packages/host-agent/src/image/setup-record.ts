import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from '@nestbox/kit';
import { z } from 'zod';
import { type CurrentImages, currentImages } from '../storage/images-file.ts';
import type { HostLayout } from '../storage/layout.ts';
import { parseJson } from '../storage/parse-json.ts';

/** `setup.json`: what the agent disk of one hash was made from (agentDiskFingerprint). */
const setupRecord = z.object({ agentDiskHash: z.string(), agentFingerprint: z.string() });

export type SetupRecord = z.infer<typeof setupRecord>;

/** Undefined when it is not there or says nothing that can be used: then set-up looks at everything anew. */
export function readSetupRecord(layout: HostLayout): Promise<SetupRecord | undefined> {
  return readJson(layout.setupRecord, setupRecord);
}

export function readCurrentImages(layout: HostLayout): Promise<CurrentImages | undefined> {
  return readJson(layout.currentImages, currentImages);
}

export function writeSetupRecord(layout: HostLayout, record: SetupRecord): Promise<void> {
  return writeFileAtomic(layout.setupRecord, `${JSON.stringify(record, undefined, 2)}\n`, 0o644);
}

export function writeCurrentImages(layout: HostLayout, images: CurrentImages): Promise<void> {
  return writeFileAtomic(layout.currentImages, `${JSON.stringify(images, undefined, 2)}\n`, 0o644);
}

async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const parsed = parseJson(text, schema);
  return parsed.ok ? parsed.value : undefined;
}
