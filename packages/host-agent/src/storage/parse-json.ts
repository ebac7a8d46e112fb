import { z } from 'zod';

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  /** In plain words, on one line. */
  | { readonly ok: false; readonly reason: string };

/** Parses what one of our own files should hold; files are edited by hand, cut off by crashes and left by older versions. */
export function parseJson<T>(text: string, schema: z.ZodType<T>): Parsed<T> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { ok: false, reason: text === '' ? 'the file is empty' : 'not JSON' };
  }
  const result = schema.safeParse(json);
  if (result.success) return { ok: true, value: result.data };
  return { ok: false, reason: z.prettifyError(result.error).replaceAll(/\s*\n\s*/g, ' ') };
}
