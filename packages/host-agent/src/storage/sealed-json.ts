import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { parseJson } from './parse-json.ts';

const sealed = z.looseObject({ checksum: z.int().optional() });

/** A JSON object with a field `checksum` over all others, as text. */
export function sealJson(value: object): string {
  return `${JSON.stringify({ ...value, checksum: crc32(JSON.stringify(value)) }, undefined, 2)}\n`;
}

/** Undefined: it is what was sealed, or has no seal (one that somebody has written by hand). Else what is wrong, in plain words. */
export function brokenSeal(text: string): string | undefined {
  const parsed = parseJson(text, sealed);
  if (!parsed.ok) return parsed.reason;
  const { checksum, ...value } = parsed.value;
  return checksum === undefined || checksum === crc32(JSON.stringify(value)) ? undefined : 'its checksum is wrong';
}
