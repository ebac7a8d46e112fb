import { z } from 'zod';

/** Largest value of the wire's `int32`. */
const INT32_MAX = 2_147_483_647;

export const seconds = z.int().min(0).max(INT32_MAX);

/** Text that goes into a database or into a process's environment: neither takes NUL. */
export const textWithoutNul = z.string().refine((text) => !text.includes('\0'), 'must not contain NUL');

export const stringMap = z.record(textWithoutNul, textWithoutNul);

export const timestamp = z.iso.datetime({ offset: true });

export const pageLimit = z.coerce.number().int().min(1).max(100).default(100);

export const sandboxIdParams = z.object({ sandboxID: z.string() });
