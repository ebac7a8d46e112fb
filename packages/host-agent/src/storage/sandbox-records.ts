import { mkdir, readFile, rm } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { replaceFile, writeFileAtomic } from '@nestbox/kit';
import type { z } from 'zod';
import { mapDiskFull } from './disk-space.ts';
import { errnoOf } from './errno.ts';
import type { HostLayout } from './layout.ts';
import { parseJson } from './parse-json.ts';
import { brokenSeal, sealJson } from './sealed-json.ts';
import { subfolders } from './subfolders.ts';

export interface DamagedRecord<T> {
  readonly sandboxId: string;
  /**
   * `missing`: a folder without a record, left by a create or a remove that was interrupted.
   * `unreadable`: a record that this version cannot read, or that is not what was written; a VM may belong to it.
   */
  readonly kind: 'missing' | 'unreadable';
  /** In plain words, for the log. */
  readonly reason: string;
  /** What the file holds, as far as that can be told. */
  readonly text?: string;
  /** What it says, when its checksum alone is wrong. */
  readonly record?: T;
}

export interface RecordList<T> {
  readonly records: readonly { readonly sandboxId: string; readonly record: T }[];
  readonly damaged: readonly DamagedRecord<T>[];
}

/**
 * The durable record of every sandbox, `sandboxes/<id>/sandbox.json`, in the folder that holds its disk and console too.
 * Writes of one sandbox must come one after another; a crash leaves the old record or the new one.
 */
export class SandboxRecordStore<T extends object> {
  readonly #layout: HostLayout;
  readonly #schema: z.ZodType<T>;

  constructor(layout: HostLayout, schema: z.ZodType<T>) {
    this.#layout = layout;
    this.#schema = schema;
  }

  /**
   * Makes the sandbox's folder when it is not there. `durable: false` survives the end of this process, not that of the
   * machine: enough for a VM, which does not survive that either; what is durable has a checksum. Throws NestboxError host_disk_full.
   */
  async write(sandboxId: string, record: T, { durable = true } = {}): Promise<void> {
    this.#requirePlainId(sandboxId);
    const text = durable ? sealJson(record) : `${JSON.stringify(record, undefined, 2)}\n`;
    const path = this.#layout.sandboxRecord(sandboxId);
    try {
      await mkdir(this.#layout.sandboxDir(sandboxId), { recursive: true, mode: 0o700 });
      await (durable ? writeFileAtomic(path, text) : replaceFile(path, text));
    } catch (error) {
      throw mapDiskFull(error);
    }
  }

  /** Undefined when there is none. Throws NestboxError internal when it is damaged. */
  async read(sandboxId: string): Promise<T | undefined> {
    this.#requirePlainId(sandboxId);
    const found = await this.#load(sandboxId);
    if (!('kind' in found)) return found.record;
    if (found.kind === 'missing') return undefined;
    throw new NestboxError('internal', `The record of sandbox ${sandboxId} is damaged: ${found.reason}`);
  }

  /** All of them, damaged ones apart. */
  async list(): Promise<RecordList<T>> {
    const ids = await subfolders(this.#layout.sandboxesDir);
    const found = await Promise.all(ids.map((sandboxId) => this.#load(sandboxId)));
    return {
      records: found.filter((entry): entry is { sandboxId: string; record: T } => !('kind' in entry)),
      damaged: found.filter((entry) => 'kind' in entry),
    };
  }

  /** Removes the folder with everything in it: record, disk, console. Fine when it is gone. */
  async remove(sandboxId: string): Promise<void> {
    this.#requirePlainId(sandboxId);
    await rm(this.#layout.sandboxDir(sandboxId), { recursive: true, force: true });
  }

  async #load(sandboxId: string): Promise<{ sandboxId: string; record: T } | DamagedRecord<T>> {
    let text: string;
    try {
      text = await readFile(this.#layout.sandboxRecord(sandboxId), 'utf8');
    } catch (error) {
      return errnoOf(error) === 'ENOENT'
        ? { sandboxId, kind: 'missing', reason: 'sandbox.json is missing' }
        : {
            sandboxId,
            kind: 'unreadable',
            reason: `sandbox.json cannot be read: ${errnoOf(error) ?? 'unknown error'}`,
          };
    }
    const parsed = parseJson(text, this.#schema);
    if (!parsed.ok) return { sandboxId, kind: 'unreadable', reason: `sandbox.json: ${parsed.reason}`, text };
    const record = parsed.value;
    const broken = brokenSeal(text);
    return broken === undefined
      ? { sandboxId, record }
      : { sandboxId, kind: 'unreadable', reason: `sandbox.json: ${broken}`, text, record };
  }

  /** The id becomes part of a path that is removed with everything in it: the last place to be strict. */
  #requirePlainId(sandboxId: string): void {
    if (!/^[A-Za-z0-9_-]+$/.test(sandboxId))
      throw new NestboxError('invalid_request', `${JSON.stringify(sandboxId)} is no sandbox id`);
  }
}
