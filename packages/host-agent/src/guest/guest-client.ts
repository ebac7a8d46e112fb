import type { Readable } from 'node:stream';
import { type ClockSync, leaveProcessorCounter, syncClock } from './clock-sync.ts';
import type { PoolOptions } from './connection-pool.ts';
import * as files from './files.ts';
import { GuestConnection, type GuestEndpoint } from './guest-connection.ts';
import { type GuestInit, initGuest } from './init.ts';
import { fetchLogs, type GuestLogs } from './logs.ts';
import * as preload from './memory-preload.ts';
import {
  type GuestActivity,
  type GuestMetrics,
  prepareSnapshot,
  readActivity,
  readMetrics,
  settle,
} from './metrics.ts';
import type { GuestProcessEvent } from './process-events.ts';
import { connectToProcess, type ExecResult, exec, execStream, type GuestCommand, killProcess } from './processes.ts';
import { checkHealth, waitUntilReady } from './readiness.ts';
import { connectTerminal, type GuestTerminal, startTerminal, type TerminalOptions } from './terminal.ts';
import { type WarmUpOptions, warmUpGuest } from './warm-up.ts';

interface UserOption {
  /** Default root. */
  readonly user?: string;
}

/** Everything that the host asks of a guest agent. Throws GuestError only; no call retries but `waitUntilReady`. */
export interface GuestClient {
  /** Own deadline, apart from that of `init`. */
  waitUntilReady(timeoutMs: number, signal?: AbortSignal): Promise<void>;
  checkHealth(timeoutMs: number, signal?: AbortSignal): Promise<void>;
  init(init: GuestInit, signal?: AbortSignal): Promise<{ readonly envdVersion: string | undefined }>;
  /** The token of all calls from the next `init` on, which tells the guest. */
  giveToken(accessToken: string | undefined): void;
  /** After `init` of a restored guest, whose clock is late by the time that took. Answers what is left of the difference. */
  syncClock(signal?: AbortSignal): Promise<ClockSync>;
  /** For a guest that keeps no step with this host: it reads the time by another counter than the processor's from then on. */
  leaveProcessorCounter(signal?: AbortSignal): Promise<void>;
  /** Before the snapshot of a template: serves what a first user would ask, and leaves nothing of it. */
  warmUp(options: WarmUpOptions, signal?: AbortSignal): Promise<void>;
  /** Before the snapshot of a template: the guest agent collects its garbage. */
  settle(signal?: AbortSignal): Promise<void>;

  exec(command: GuestCommand, signal?: AbortSignal): Promise<ExecResult>;
  execStream(command: GuestCommand, signal?: AbortSignal): AsyncGenerator<GuestProcessEvent, void, undefined>;
  connectToProcess(pid: number, signal?: AbortSignal): AsyncGenerator<GuestProcessEvent, void, undefined>;
  killProcess(pid: number, signal?: AbortSignal): Promise<boolean>;
  startTerminal(options: TerminalOptions, signal?: AbortSignal): Promise<GuestTerminal>;
  connectTerminal(pid: number, signal?: AbortSignal): Promise<GuestTerminal>;

  writeFile(path: string, content: files.GuestFileContent, options?: UserOption, signal?: AbortSignal): Promise<void>;
  readFile(path: string, options?: UserOption, signal?: AbortSignal): Promise<Readable>;
  listDir(
    path: string,
    options?: UserOption & { readonly depth?: number },
    signal?: AbortSignal,
  ): Promise<files.GuestEntry[]>;
  makeDir(path: string, options?: UserOption, signal?: AbortSignal): Promise<boolean>;
  remove(path: string, options?: UserOption, signal?: AbortSignal): Promise<void>;

  metrics(signal?: AbortSignal): Promise<GuestMetrics>;
  activity(signal?: AbortSignal): Promise<GuestActivity>;
  /** The sandbox's own lines behind a position; undefined when this guest's agent is from before there were any. */
  logs(
    sandboxId: string,
    position: { readonly buffer: string; readonly seq: number } | undefined,
    signal?: AbortSignal,
  ): Promise<GuestLogs | undefined>;
  prepareSnapshot(signal?: AbortSignal): Promise<void>;
  startMemoryPreload(signal?: AbortSignal): Promise<void>;
  memoryPreloadStatus(signal?: AbortSignal): Promise<preload.MemoryPreloadStatus>;
  waitForMemoryPreload(signal?: AbortSignal): Promise<preload.MemoryPreloadStatus>;
  cancelMemoryPreload(signal?: AbortSignal): Promise<void>;

  /** Before a snapshot: nobody on the other side knows these connections after a restore. */
  closeIdleConnections(): void;
  /** Ends every connection, used ones too. */
  close(): void;
}

export type GuestClientFactory = (endpoint: GuestEndpoint) => GuestClient;

export function createGuestClient(endpoint: GuestEndpoint, options: PoolOptions = {}): GuestClient {
  const guest = new GuestConnection(endpoint, options);
  return {
    waitUntilReady: (timeoutMs, signal) => waitUntilReady(guest, timeoutMs, signal),
    checkHealth: (timeoutMs, signal) => checkHealth(guest, timeoutMs, signal),
    init: (init, signal) => initGuest(guest, init, signal),
    giveToken: (accessToken) => guest.giveToken(accessToken),
    syncClock: (signal) => syncClock(guest, signal),
    leaveProcessorCounter: (signal) => leaveProcessorCounter(guest, signal),
    warmUp: (warmUp, signal) => warmUpGuest(guest, warmUp, signal),
    settle: (signal) => settle(guest, signal),

    exec: (command, signal) => exec(guest, command, signal),
    execStream: (command, signal) => execStream(guest, command, signal),
    connectToProcess: (pid, signal) => connectToProcess(guest, pid, signal),
    killProcess: (pid, signal) => killProcess(guest, pid, signal),
    startTerminal: (terminal, signal) => startTerminal(guest, terminal, signal),
    connectTerminal: (pid, signal) => connectTerminal(guest, pid, signal),

    writeFile: (path, content, options, signal) => files.writeFile(guest, path, content, options, signal),
    readFile: (path, options, signal) => files.readFile(guest, path, options, signal),
    listDir: (path, options, signal) => files.listDir(guest, path, options, signal),
    makeDir: (path, options, signal) => files.makeDir(guest, path, options, signal),
    remove: (path, options, signal) => files.remove(guest, path, options, signal),

    metrics: (signal) => readMetrics(guest, signal),
    activity: (signal) => readActivity(guest, signal),
    logs: (sandboxId, position, signal) => fetchLogs(guest, sandboxId, position, signal),
    prepareSnapshot: (signal) => prepareSnapshot(guest, signal),
    startMemoryPreload: (signal) => preload.startMemoryPreload(guest, signal),
    memoryPreloadStatus: (signal) => preload.memoryPreloadStatus(guest, signal),
    waitForMemoryPreload: (signal) => preload.waitForMemoryPreload(guest, signal),
    cancelMemoryPreload: (signal) => preload.cancelMemoryPreload(guest, signal),

    closeIdleConnections: () => guest.closeIdle(),
    close: () => guest.close(),
  };
}
