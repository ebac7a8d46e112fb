import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { Logger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import { type Clock, systemClock } from '../clock.ts';
import {
  type ApiKeyRecord,
  dropReplacedKeys,
  findApiKeyByHash,
  insertApiKey,
  noteKeyUse,
} from '../store/api-key-repository.ts';
import type { Database } from '../store/schema.ts';

const KEY_PREFIX = 'e2b_';
const KEY_BYTES = 20;
/** How much of a key is shown, in front and at the end, to tell it from others: 24 of its 160 bits. */
const SHOWN_PREFIX_LENGTH = 2;
const SHOWN_SUFFIX_LENGTH = 4;
/** How often the times of last use are written. */
const USE_WRITE_MS = 30_000;
/** How long a key is believed to be valid where other servers may revoke it. */
const BELIEVED_MS = 1000;

export interface NewKey {
  /** The only time that it is told. */
  readonly key: string;
  readonly record: ApiKeyRecord;
}

/** Who speaks with a key. */
export interface KeyOwner {
  readonly keyId: string;
  /** What the key is called. */
  readonly name: string;
  readonly teamId: string;
}

export interface ApiKeysOptions {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Nobody else writes the database: what was read of a key stays true until it is forgotten here. */
  readonly isSoleWriter: boolean;
}

/**
 * Says whose a key is. A revoked key is refused from the next request on; at other servers on the same database a second
 * later, since what was read of a key is believed for so long.
 */
export class ApiKeys {
  readonly #options: ApiKeysOptions;
  /** Valid keys by their hashes. */
  readonly #known = new Map<string, { readonly record: ApiKeyRecord; readonly readAtMs: number }>();
  /** Times of use that are not written yet, by key id. */
  readonly #usedAtMs = new Map<string, number>();
  /** Grows with each `forget`: what was read before one is not kept behind it. */
  #epoch = 0;

  constructor(options: ApiKeysOptions) {
    this.#options = options;
  }

  /** Undefined when it is unknown, revoked or expired. */
  async findOwner(key: string): Promise<KeyOwner | undefined> {
    const record = await this.#find(hashKey(key));
    const nowMs = this.#options.clock.now();
    if (record === undefined || (record.expiresAtMs !== undefined && record.expiresAtMs <= nowMs)) return undefined;
    this.#usedAtMs.set(record.id, nowMs);
    return { keyId: record.id, name: record.name, teamId: record.teamId };
  }

  /** To be called when keys were revoked. */
  forget(): void {
    this.#epoch += 1;
    this.#known.clear();
  }

  /** Writes the times of last use until the signal is aborted, and what is left then. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await systemClock.sleep(USE_WRITE_MS, signal);
      await this.writeUses();
    }
  }

  /** Never rejects: what could not be written is written the next time. */
  async writeUses(): Promise<void> {
    const { db, logger } = this.#options;
    const uses = [...this.#usedAtMs];
    this.#usedAtMs.clear();
    for (const [id, atMs] of uses) {
      try {
        await noteKeyUse(db, id, atMs);
      } catch (error) {
        if (!this.#usedAtMs.has(id)) this.#usedAtMs.set(id, atMs);
        logger.warn({ err: error, keyId: id }, 'The last use of a key could not be written');
      }
    }
  }

  async #find(keyHash: string): Promise<ApiKeyRecord | undefined> {
    const { isSoleWriter, db } = this.#options;
    const known = this.#known.get(keyHash);
    const nowMs = performance.now();
    if (known !== undefined && (isSoleWriter || nowMs - known.readAtMs < BELIEVED_MS)) return known.record;
    this.#known.delete(keyHash);
    const epoch = this.#epoch;
    const record = await findApiKeyByHash(db, keyHash);
    if (record === undefined || record.revokedAtMs !== undefined) return undefined;
    if (epoch === this.#epoch) this.#known.set(keyHash, { record, readAtMs: nowMs });
    return record;
  }
}

/** A key that nobody has, as it is to be stored. */
export function newKey(teamId: string, name: string, createdAtMs: number, expiresAtMs: number | undefined): NewKey {
  const key = KEY_PREFIX + randomBytes(KEY_BYTES).toString('hex');
  return { key, record: describeKey(key, { teamId, name, createdAtMs, expiresAtMs }) };
}

/**
 * Puts the key of the configuration in, for the default team, unless it is there, in place of the one that was configured
 * before: whoever changes it wants the old one refused. One that was revoked stays revoked: the answer is false then.
 */
export async function putConfiguredKey(
  db: Kysely<Database>,
  teamId: string,
  key: string,
  createdAtMs: number,
): Promise<boolean> {
  const made = describeKey(key, { teamId, name: 'configured', createdAtMs, expiresAtMs: undefined });
  const record = { ...made, isConfigured: true };
  return await db.transaction().execute(async (trx) => {
    await dropReplacedKeys(trx, record.keyHash);
    if (await insertApiKey(trx, record)) return true;
    return (await findApiKeyByHash(trx, record.keyHash))?.revokedAtMs === undefined;
  });
}

function describeKey(
  key: string,
  life: Pick<ApiKeyRecord, 'teamId' | 'name' | 'createdAtMs' | 'expiresAtMs'>,
): ApiKeyRecord {
  const value = key.startsWith(KEY_PREFIX) ? key.slice(KEY_PREFIX.length) : key;
  return {
    ...life,
    id: randomUUID(),
    keyHash: hashKey(key),
    valueLength: value.length,
    shownPrefix: value.slice(0, SHOWN_PREFIX_LENGTH),
    shownSuffix: value.slice(-SHOWN_SUFFIX_LENGTH),
    lastUsedAtMs: undefined,
    revokedAtMs: undefined,
    isConfigured: false,
  };
}

function hashKey(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}
