import { readFile } from 'node:fs/promises';
import { GUEST_AGENT_PORT } from '@nestbox/contract';
import { hostLayout } from '@nestbox/host-agent/storage';
import type { NestboxPaths } from '@nestbox/kit';
import { z } from 'zod';

/** The part of a sandbox's record that leads to its guest agent past edge and proxy. */
const record = z.object({
  accessToken: z.string().optional(),
  situation: z.object({ slot: z.object({ hostReachableAddress: z.string() }) }),
});

/** Where the guest agent of a sandbox listens, as the host agent reaches it. */
export async function directGuest(
  paths: NestboxPaths,
  sandboxId: string,
): Promise<{ url: string; accessToken: string | undefined }> {
  const { accessToken, situation } = record.parse(
    JSON.parse(await readFile(hostLayout(paths).sandboxRecord(sandboxId), 'utf8')),
  );
  return { url: `http://${situation.slot.hostReachableAddress}:${GUEST_AGENT_PORT}`, accessToken };
}
