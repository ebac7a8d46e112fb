import { type FileHandle, open, readFile } from 'node:fs/promises';
import { kcoreHeaderBytes, locateMemory, type MemoryRegion, parseSystemRam } from './physical-memory.ts';

/** Answer of GET /memory/preload, in the wire's own names (host-system.md). */
export interface PreloadStatus {
  readonly state: 'idle' | 'running' | 'done' | 'failed' | 'cancelled';
  readonly regions: number;
  readonly pages: number;
  readonly bytes: number;
  readonly elapsed_sec: number;
  readonly source: string;
  readonly error?: string;
}

const SOURCE = '/proc/kcore';
const PAGE_BYTES = 4096;
const READ_BYTES = 1024 * 1024;
const IDLE: PreloadStatus = { state: 'idle', regions: 0, pages: 0, bytes: 0, elapsed_sec: 0, source: SOURCE };

/**
 * Reads all physical memory once, so that a VMM which restores memory on demand has loaded every page. The kernel lets
 * root read it through /proc/kcore; /dev/mem would refuse RAM (CONFIG_STRICT_DEVMEM).
 */
export class MemoryPreload {
  #status = IDLE;
  #startedAtMs = 0;
  #cancel: AbortController | undefined;

  get status(): PreloadStatus {
    return this.#status;
  }

  /** Begins in the background; harmless while it runs. */
  start(): void {
    if (this.#status.state === 'running') return;
    this.#startedAtMs = performance.now();
    this.#status = { ...IDLE, state: 'running' };
    const cancel = new AbortController();
    this.#cancel = cancel;
    this.#run(cancel.signal).then(
      () => this.#update({ state: cancel.signal.aborted ? 'cancelled' : 'done' }),
      (error: unknown) =>
        this.#update({ state: 'failed', error: error instanceof Error ? error.message : String(error) }),
    );
  }

  /** Stops at the next piece; harmless when nothing runs. */
  cancel(): void {
    this.#cancel?.abort();
  }

  async #run(signal: AbortSignal): Promise<void> {
    await using kcore = await open(SOURCE, 'r');
    const regions = await findRegions(kcore);
    if (regions.length === 0) throw new Error('the kernel does not tell where its memory is (/proc/iomem)');
    this.#update({ regions: regions.length });
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    let bytes = 0;
    for (const region of regions) {
      for (let done = 0n; done < region.bytes && !signal.aborted; ) {
        const left = region.bytes - done;
        const length = left < BigInt(READ_BYTES) ? Number(left) : READ_BYTES;
        const { bytesRead } = await kcore.read(buffer, 0, length, region.fileOffset + done);
        if (bytesRead === 0) throw new Error(`${SOURCE} ends at ${region.physicalAddress + done}`);
        done += BigInt(bytesRead);
        bytes += bytesRead;
        this.#update({ bytes, pages: Math.floor(bytes / PAGE_BYTES) });
      }
    }
  }

  #update(change: Partial<PreloadStatus>): void {
    const elapsed = Math.round(performance.now() - this.#startedAtMs) / 1000;
    this.#status = { ...this.#status, ...change, elapsed_sec: elapsed };
  }
}

async function findRegions(kcore: FileHandle): Promise<MemoryRegion[]> {
  const ram = parseSystemRam(await readFile('/proc/iomem', 'utf8'));
  const start = Buffer.alloc(64);
  await kcore.read(start, 0, start.length, 0);
  const header = Buffer.alloc(kcoreHeaderBytes(start));
  await kcore.read(header, 0, header.length, 0);
  return locateMemory(header, ram);
}
