/** Ids on the wire: `i` and 20 characters for sandboxes, 20 characters for templates (docs/compatibility.md). */
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
const ID_LENGTH = 20;

/** Draws from the platform's cryptographic random source, without modulo bias. */
function randomChars(length: number): string {
  const limit = 256 - (256 % ALPHABET.length);
  let out = '';
  while (out.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length * 2))) {
      if (byte < limit && out.length < length) out += ALPHABET[byte % ALPHABET.length];
    }
  }
  return out;
}

export function newSandboxId(): string {
  return `i${randomChars(ID_LENGTH)}`;
}

export function newTemplateId(): string {
  return randomChars(ID_LENGTH);
}

const SANDBOX_ID = /^[a-z0-9]{1,32}$/;

/**
 * Parses a sandbox id as clients send it: the plain id, or the legacy `<id>-<clientID>`, whose suffix is dropped.
 * Returns undefined when it can be no sandbox id at all.
 */
export function parseSandboxId(value: string): string | undefined {
  const id = value.split('-', 1)[0] ?? '';
  return SANDBOX_ID.test(id) ? id : undefined;
}
