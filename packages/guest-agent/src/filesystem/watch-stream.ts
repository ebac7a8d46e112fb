import { create } from '@bufbuild/protobuf';
import type { HandlerContext } from '@connectrpc/connect';
import { type FilesystemEvent, type WatchDirResponse, WatchDirResponseSchema } from '@nestbox/contract/filesystem';
import { EventQueue } from '../rpc/event-queue.ts';
import { keepAliveIntervalMs } from '../rpc/keep-alive.ts';
import type { Inotify } from '../system/inotify.ts';
import { DirectoryWatcher, type WatchOptions } from './directory-watcher.ts';
import { toRpcError } from './rpc-error.ts';

/** What may wait for a client that reads slower than files change, before the stream fails. */
const MAX_QUEUED_BYTES = 16 * 1024 * 1024;

/** A generous guess of what an event occupies, with and without a description of the file. */
const EVENT_BYTES = 128;
const ENTRY_BYTES = 1024;

/**
 * The messages of one WatchDir call: `start` once everything is watched, then events and keep-alives until the client
 * leaves, the deadline passes, or events are lost, which fails the call with `internal`.
 */
export async function* watchStream(
  inotify: Inotify,
  handler: HandlerContext,
  options: WatchOptions,
): AsyncGenerator<WatchDirResponse> {
  const queue = new EventQueue<WatchDirResponse>();
  const fail = (error: Error) => queue.end(toRpcError(new Error(`watcher error: ${error.message}`, { cause: error })));
  let watcher: DirectoryWatcher | undefined;
  const stop = () => watcher?.close();
  const sink = {
    onEvent(event: FilesystemEvent) {
      queue.push(message({ case: 'filesystem', value: event }), sizeOf(event));
      if (queue.queuedBytes <= MAX_QUEUED_BYTES) return;
      stop();
      fail(new Error('the client reads too slowly: queue or buffer overflow'));
    },
    onFailure: fail,
  };
  watcher = await DirectoryWatcher.start(inotify, options, sink, handler.signal);
  handler.signal.addEventListener('abort', stop, { once: true });
  try {
    yield message({ case: 'start', value: {} });
    yield* queue.read(handler.signal, {
      intervalMs: keepAliveIntervalMs(handler.requestHeader),
      message: () => message({ case: 'keepalive', value: {} }),
    });
  } finally {
    handler.signal.removeEventListener('abort', stop);
    stop();
  }
}

function sizeOf(event: FilesystemEvent): number {
  return EVENT_BYTES + event.name.length * 2 + (event.entry === undefined ? 0 : ENTRY_BYTES);
}

type EventInit = NonNullable<Parameters<typeof create<typeof WatchDirResponseSchema>>[1]>['event'];

function message(event: EventInit): WatchDirResponse {
  return create(WatchDirResponseSchema, event === undefined ? {} : { event });
}
