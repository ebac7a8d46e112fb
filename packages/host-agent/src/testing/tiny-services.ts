import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { EventType, Filesystem, type WatchDirResponseSchema } from '@nestbox/contract/filesystem';
import { Process } from '@nestbox/contract/process';

/** Commands, terminals and files for the tiny agent: enough to be warmed up (guest/warm-up.ts). Nothing of it is real. */
export function tinyServices(): RequestListener {
  const terminals = new Map<number, () => void>();
  const watchers = new Set<() => void>();
  let lastPid = 100;
  const processes: Partial<ServiceImpl<typeof Process>> = {
    async *start({ process, pty }) {
      const pid = ++lastPid;
      yield { event: { event: { case: 'start', value: { pid } } } };
      console.log(`agent: runs ${[process?.cmd, ...(process?.args ?? [])].join(' ')}`);
      if (pty !== undefined) await new Promise<void>((resolve) => terminals.set(pid, resolve));
      const exitCode = pty === undefined ? 0 : -1;
      yield { event: { event: { case: 'end', value: { exitCode, exited: true, status: 'ended' } } } };
    },
    sendInput: () => ({}),
    sendSignal({ process }) {
      const pid = process?.selector.case === 'pid' ? process.selector.value : 0;
      const end = terminals.get(pid);
      if (end === undefined) throw new ConnectError('no such process', Code.NotFound);
      terminals.delete(pid);
      end();
      return {};
    },
  };
  const files: Partial<ServiceImpl<typeof Filesystem>> = {
    listDir: () => ({ entries: [] }),
    makeDir: () => ({}),
    remove: () => ({}),
    async *watchDir(
      _request,
      { signal }: HandlerContext,
    ): AsyncGenerator<MessageInitShape<typeof WatchDirResponseSchema>> {
      const written = new Promise<void>((resolve) => watchers.add(resolve));
      yield { event: { case: 'start', value: {} } };
      await Promise.race([written, new Promise((resolve) => signal.addEventListener('abort', resolve))]);
      yield { event: { case: 'filesystem', value: { name: 'watched.txt', type: EventType.CREATE } } };
    },
  };
  const rpc = connectNodeAdapter({
    routes: (router) => router.service(Process, processes).service(Filesystem, files),
  });
  return (request, response) => {
    if (request.url?.startsWith('/files?') !== true) {
      rpc(request, response);
      return;
    }
    answerFile(request, response);
    for (const tell of watchers) tell();
    watchers.clear();
  };
}

function answerFile(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  request.once('end', () => response.writeHead(200).end(request.method === 'GET' ? 'a small file\n' : '[]'));
}
