import { rm, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Code, ConnectError, type ConnectRouter, type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import { type EntryInfo, Filesystem, type WatchDirRequest } from '@nestbox/contract/filesystem';
import type { AgentContext } from '../context.ts';
import { resolvePath } from '../paths.ts';
import { requestUser } from '../rpc/request-user.ts';
import { Inotify } from '../system/inotify.ts';
import type { SystemUser } from '../users.ts';
import type { WatchOptions } from './directory-watcher.ts';
import { entryInfo } from './entry-info.ts';
import { errorCode } from './error-code.ts';
import { listDirectory } from './list-directory.ts';
import { makeDirectory } from './make-directory.ts';
import { move } from './move.ts';
import { isOnNetworkMount } from './network-mount.ts';
import { PolledWatchers } from './polled-watchers.ts';
import { mapped, toRpcError } from './rpc-error.ts';
import { watchStream } from './watch-stream.ts';

const MISSING_IS_NOT_FOUND = { ENOENT: Code.NotFound } as const;

/** The Connect service `filesystem.Filesystem` (envd-interface.md, section 4). Files are handled as root. */
export function filesystemService(context: AgentContext): (router: ConnectRouter) => void {
  const inotify = new Inotify();
  const polled = new PolledWatchers(inotify);

  /** Who asks, and what their path means. Throws ConnectError `unauthenticated`, NestboxError `invalid_request`. */
  function target(path: string, handler: HandlerContext): { user: SystemUser; path: string } {
    const user = requestUser(context.state, handler);
    return { user, path: resolvePath(path, user, context.state.defaultWorkdir) };
  }

  const methods: ServiceImpl<typeof Filesystem> = {
    stat: mapped(MISSING_IS_NOT_FOUND, async (request, handler) => {
      return { entry: await entryInfo(target(request.path, handler).path) };
    }),

    makeDir: mapped({}, async (request, handler) => {
      const { user, path } = target(request.path, handler);
      return { entry: await makeNewDirectory(path, user) };
    }),

    move: mapped(MISSING_IS_NOT_FOUND, async (request, handler) => {
      const { user, path: source } = target(request.source, handler);
      const { path: destination } = target(request.destination, handler);
      await move(source, destination, user);
      return { entry: await entryInfo(destination) };
    }),

    listDir: mapped({ ENOENT: Code.NotFound, ELOOP: Code.FailedPrecondition }, async (request, handler) => {
      const { path } = target(request.path, handler);
      await requireDirectory(path);
      return { entries: await listDirectory(path, request.depth || 1, handler.signal) };
    }),

    remove: mapped({}, async (request, handler) => {
      const { path } = target(request.path, handler);
      if (resolve(path) === '/') throw new ConnectError('the root directory cannot be removed', Code.InvalidArgument);
      await rm(path, { recursive: true, force: true });
      return {};
    }),

    async *watchDir(request, handler) {
      try {
        yield* watchStream(inotify, handler, await watchOptions(request, handler));
      } catch (error) {
        throw toRpcError(error, MISSING_IS_NOT_FOUND);
      }
    },

    createWatcher: mapped(MISSING_IS_NOT_FOUND, async (request, handler) => {
      return { watcherId: await polled.create(await watchOptions(request, handler), handler.signal) };
    }),

    getWatcherEvents: mapped({}, async ({ watcherId }) => {
      const watcher = polled.get(watcherId);
      if (watcher === undefined) throw noSuchWatcher(watcherId);
      return { events: await watcher.takeEvents() };
    }),

    removeWatcher: mapped({}, async ({ watcherId }) => {
      if (!polled.remove(watcherId)) throw noSuchWatcher(watcherId);
      return {};
    }),
  };

  /** Parses what both kinds of watch ask for, and refuses what cannot be watched. */
  async function watchOptions(
    request: Pick<WatchDirRequest, 'path' | 'recursive' | 'includeEntry' | 'allowNetworkMounts'>,
    handler: HandlerContext,
  ): Promise<WatchOptions> {
    const { path } = target(request.path, handler);
    await requireDirectory(path);
    if (!request.allowNetworkMounts && (await isOnNetworkMount(path)))
      throw new ConnectError(`cannot watch path on network filesystem: ${path}`, Code.InvalidArgument);
    return { path, recursive: request.recursive, includeEntry: request.includeEntry };
  }

  return (router) => {
    router.service(Filesystem, methods);
  };
}

/** MakeDir refuses what exists, unlike `makeDirectory`. */
async function makeNewDirectory(path: string, user: SystemUser): Promise<EntryInfo> {
  const existing = await stat(path).catch((error: unknown) => {
    if (errorCode(error) !== 'ENOENT') throw error;
  });
  if (existing?.isDirectory()) throw new ConnectError(`directory already exists: ${path}`, Code.AlreadyExists);
  if (existing !== undefined)
    throw new ConnectError(`path already exists but it is not a directory: ${path}`, Code.InvalidArgument);
  await makeDirectory(path, user);
  return entryInfo(path);
}

/** Throws the errors of stat(2), and ConnectError `invalid_argument` for what is no directory. */
async function requireDirectory(path: string): Promise<void> {
  if (!(await stat(path)).isDirectory())
    throw new ConnectError(`path is not a directory: ${path}`, Code.InvalidArgument);
}

function noSuchWatcher(id: string): ConnectError {
  return new ConnectError(`watcher with id ${id} not found`, Code.NotFound);
}
