const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

/** The value of Content-Disposition for showing a file named `name` (RFC 6266; names beyond ASCII by RFC 8187). */
export function inlineDisposition(name: string): string {
  if (TOKEN.test(name)) return `inline; filename=${name}`;
  if (PRINTABLE_ASCII.test(name)) return `inline; filename="${name.replaceAll(/["\\]/g, '\\$&')}"`;
  const encoded = encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `inline; filename*=utf-8''${encoded}`;
}
