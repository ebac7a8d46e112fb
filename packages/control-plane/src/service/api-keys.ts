import { createHash, timingSafeEqual } from 'node:crypto';
import type { Kysely } from 'kysely';
import { listApiKeyHashes, putApiKey } from '../store/api-key-repository.ts';
import type { Database } from '../store/schema.ts';

/** The id under which the key of the configuration is stored; a changed configuration replaces it. */
const CONFIGURED_KEY_ID = 'configured';

/** The API keys that are valid, as hashes. */
export class ApiKeys {
  readonly #hashes: readonly Buffer[];

  private constructor(hashes: readonly Buffer[]) {
    this.#hashes = hashes;
  }

  /** Stores the configured key's hash and reads all of them. */
  static async load(db: Kysely<Database>, configuredKey: string, nowMs: number): Promise<ApiKeys> {
    await putApiKey(db, {
      id: CONFIGURED_KEY_ID,
      name: 'configured',
      key_hash: sha256(configuredKey).toString('hex'),
      created_at_ms: nowMs,
    });
    const hashes = await listApiKeyHashes(db);
    return new ApiKeys(hashes.map((hash) => Buffer.from(hash, 'hex')));
  }

  /** Compares against every key in the same time, whichever of them fits. */
  accepts(key: string): boolean {
    const presented = sha256(key);
    let accepted = false;
    for (const hash of this.#hashes) accepted = timingSafeEqual(hash, presented) || accepted;
    return accepted;
  }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
