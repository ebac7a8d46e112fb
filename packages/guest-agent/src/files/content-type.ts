import { extname } from 'node:path';

const BINARY = 'application/octet-stream';
const TEXT = 'text/plain; charset=utf-8';

/** The registry knows .ts as video, which in a sandbox it hardly ever is; the content tells better. */
const AMBIGUOUS_EXTENSIONS: ReadonlySet<string> = new Set(['.ts', '.mts']);

/** Bytes that sniffing looks at (WHATWG MIME Sniffing, section 5.2: the resource header). */
const SNIFFED_BYTES = 512;

/** The type that the name's extension stands for. The registry is loaded by the first question: it is a sixth of the start. */
export async function typeByExtension(name: string): Promise<string | undefined> {
  const extension = extname(name);
  if (extension === '' || AMBIGUOUS_EXTENSIONS.has(extension)) return undefined;
  const { lookup } = await import('mime-types');
  const type = lookup(extension);
  if (type === false) return undefined;
  return type.startsWith('text/') ? `${type}; charset=utf-8` : type;
}

type Signature = readonly [type: string, offset: number, bytes: Buffer];

const latin1 = (text: string) => Buffer.from(text, 'latin1');

/** From WHATWG MIME Sniffing, sections 6 and 7. */
const SIGNATURES: readonly Signature[] = [
  ['application/pdf', 0, latin1('%PDF-')],
  ['application/postscript', 0, latin1('%!PS-Adobe-')],
  ['text/plain; charset=utf-16be', 0, latin1('\xfe\xff')],
  ['text/plain; charset=utf-16le', 0, latin1('\xff\xfe')],
  [TEXT, 0, latin1('\xef\xbb\xbf')],
  ['image/x-icon', 0, latin1('\x00\x00\x01\x00')],
  ['image/bmp', 0, latin1('BM')],
  ['image/gif', 0, latin1('GIF87a')],
  ['image/gif', 0, latin1('GIF89a')],
  ['image/webp', 8, latin1('WEBPVP')],
  ['image/png', 0, latin1('\x89PNG\r\n\x1a\n')],
  ['image/jpeg', 0, latin1('\xff\xd8\xff')],
  ['audio/mpeg', 0, latin1('ID3')],
  ['application/ogg', 0, latin1('OggS\x00')],
  ['audio/wave', 8, latin1('WAVE')],
  ['video/webm', 0, latin1('\x1a\x45\xdf\xa3')],
  ['video/mp4', 4, latin1('ftyp')],
  ['font/woff2', 0, latin1('wOF2')],
  ['font/woff', 0, latin1('wOFF')],
  ['application/x-gzip', 0, latin1('\x1f\x8b\x08')],
  ['application/zip', 0, latin1('PK\x03\x04')],
  ['application/wasm', 0, latin1('\x00asm')],
];

/** What may follow white space at the beginning of a page. */
const HTML =
  /^[\t\n\f\r ]*<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|!--)[\s>]/i;
const XML = /^[\t\n\f\r ]*<\?xml/;

/** Guesses the type from the first bytes; never fails. */
export function sniffType(head: Buffer): string {
  const start = head.subarray(0, SNIFFED_BYTES);
  const text = start.toString('latin1');
  if (HTML.test(text)) return 'text/html; charset=utf-8';
  if (XML.test(text)) return 'text/xml; charset=utf-8';
  for (const [type, offset, bytes] of SIGNATURES)
    if (start.subarray(offset, offset + bytes.length).equals(bytes)) return type;
  return start.some(isBinaryByte) ? BINARY : TEXT;
}

/** WHATWG MIME Sniffing, section 3: a binary data byte. */
function isBinaryByte(byte: number): boolean {
  return byte <= 0x08 || byte === 0x0b || (byte >= 0x0e && byte <= 0x1a) || (byte >= 0x1c && byte <= 0x1f);
}
