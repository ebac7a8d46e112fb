import { NestboxError } from '@nestbox/contract';
import { z } from 'zod';
import type { SandboxCursor, SortOrder } from '../store/sandbox-lists.ts';

/** Where the next page begins and in which order the list goes on: what `X-Next-Token` carries, opaque to clients. */
export interface PagePosition {
  readonly order: SortOrder;
  readonly after: SandboxCursor;
}

const position = z.tuple([z.enum(['asc', 'desc']), z.int(), z.string()]);

export function formatPageToken({ order, after }: PagePosition): string {
  return Buffer.from(JSON.stringify([order, after.startedAtMs, after.id])).toString('base64url');
}

/** Throws `invalid_request` for anything that formatPageToken has not made. */
export function parsePageToken(token: string): PagePosition {
  try {
    const [order, startedAtMs, id] = position.parse(JSON.parse(Buffer.from(token, 'base64url').toString()));
    return { order, after: { startedAtMs, id } };
  } catch (cause) {
    throw new NestboxError('invalid_request', 'The query parameter "nextToken" is none that this server gave out.', {
      cause,
    });
  }
}
