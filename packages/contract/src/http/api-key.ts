import { z } from 'zod';
import { textWithoutNul, timestamp } from './common.ts';

const keyName = textWithoutNul.trim().min(1).max(128);

/** How a key is shown: enough to tell it from others, too little to use it. Of the value without the prefix. */
const keyMask = z.object({
  prefix: z.string(),
  valueLength: z.int(),
  maskedValuePrefix: z.string(),
  maskedValueSuffix: z.string(),
});

export const apiKeyBody = z.object({
  id: z.uuid(),
  name: z.string(),
  mask: keyMask,
  createdAt: timestamp,
  /** Always null: there are no user accounts. */
  createdBy: z.null(),
  lastUsed: timestamp.nullable(),
  /** Nestbox's own; null: never. */
  expiresAt: timestamp.nullable(),
});
export type ApiKey = z.infer<typeof apiKeyBody>;

/** The only answer that has the key itself. */
export const createdApiKeyBody = apiKeyBody.extend({ key: z.string() });
export type CreatedApiKey = z.infer<typeof createdApiKeyBody>;

/** `expiresAt` is Nestbox's own. */
export const newApiKeyBody = z.object({ name: keyName, expiresAt: timestamp.nullish() });
export const updatedApiKeyBody = z.object({ name: keyName });
export const apiKeyIdParams = z.object({ apiKeyID: z.string() });
export const teamApiKeyIdParams = z.object({ teamID: z.string(), apiKeyID: z.string() });
