import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { type Logger, replaceFile } from '@nestbox/kit';
import { folderUsage } from '../storage/disk-usage.ts';
import { errnoOf } from '../storage/errno.ts';
import type { HostLayout } from '../storage/layout.ts';
import { subfolders } from '../storage/subfolders.ts';
import type { LogLevel } from './log-entry.ts';
import { MetricHistory } from './metric-history.ts';
import { SandboxLogs } from './sandbox-logs.ts';

/** How long logs and samples of a sandbox that has ended are kept. The control plane's table of ends keeps to it too. */
const KEPT_AFTER_END_MS = 7 * 24 * 3_600_000;
/** All of ended sandboxes together; the oldest go first. */
const MAX_ENDED_BYTES = 1024 * 2 ** 20;

/** What is kept of how sandboxes fare: logs and samples, each in a folder of its own beside the sandboxes'. */
export class Telemetry {
  readonly logs: SandboxLogs;
  readonly metrics: MetricHistory;
  readonly #layout: HostLayout;
  readonly #logger: Logger;

  constructor(layout: HostLayout, logger: Logger) {
    this.logs = new SandboxLogs(layout);
    this.metrics = new MetricHistory(layout);
    this.#layout = layout;
    this.#logger = logger;
  }

  /** Writes one line of the host's own into a sandbox's log. Never throws: a full disk must not end anything else. */
  async note(
    sandboxId: string,
    level: LogLevel,
    message: string,
    fields: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    try {
      await this.logs.append(sandboxId, [
        { timeMs: Date.now(), level, message, fields: { logger: 'nestbox', ...fields } },
      ]);
    } catch (error) {
      this.#logger.warn({ err: error, sandboxId }, 'a line could not be written into the log of a sandbox');
    }
  }

  /** From now on the sandbox's folder is kept for a while and no longer. */
  async ended(sandboxId: string): Promise<void> {
    this.logs.forget(sandboxId);
    this.metrics.forget(sandboxId);
    try {
      await mkdir(this.#layout.telemetryDir(sandboxId), { recursive: true, mode: 0o700 });
      await replaceFile(this.#layout.telemetryEnd(sandboxId), `${Date.now()}\n`);
    } catch (error) {
      this.#logger.warn({ err: error, sandboxId }, 'the end of a log could not be written down');
    }
  }

  has(sandboxId: string): Promise<boolean> {
    return stat(this.#layout.telemetryDir(sandboxId)).then(
      () => true,
      () => false,
    );
  }

  /** Removes what is older than it needs to be, or too much. */
  async sweep(isLive: (sandboxId: string) => boolean, nowMs = Date.now(), maxBytes = MAX_ENDED_BYTES): Promise<void> {
    const ended: { readonly sandboxId: string; readonly endedAtMs: number; readonly bytes: number }[] = [];
    for (const sandboxId of await subfolders(this.#layout.telemetriesDir)) {
      if (isLive(sandboxId)) continue;
      const endedAtMs = await this.#readEnd(sandboxId);
      // It ended while no host agent ran.
      if (endedAtMs === undefined) await this.ended(sandboxId);
      else {
        const folder = this.#layout.telemetryDir(sandboxId);
        ended.push({ sandboxId, endedAtMs, bytes: (await folderUsage(folder)).ownBytes });
      }
    }
    let kept = 0;
    for (const { sandboxId, endedAtMs, bytes } of ended.sort((a, b) => b.endedAtMs - a.endedAtMs)) {
      kept += bytes;
      if (nowMs - endedAtMs <= KEPT_AFTER_END_MS && kept <= maxBytes) continue;
      await rm(this.#layout.telemetryDir(sandboxId), { recursive: true, force: true });
    }
  }

  async #readEnd(sandboxId: string): Promise<number | undefined> {
    try {
      const endedAtMs = Number(await readFile(this.#layout.telemetryEnd(sandboxId), 'utf8'));
      return Number.isFinite(endedAtMs) ? endedAtMs : 0;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }
}
