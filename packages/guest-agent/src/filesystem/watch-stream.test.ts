import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Code, ConnectError, createHandlerContext } from '@connectrpc/connect';
import { Filesystem } from '@nestbox/contract/filesystem';
import { Inotify } from '../system/inotify.ts';
import { watchStream } from './watch-stream.ts';

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'nestbox-watch-stream-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

function handlerContext() {
  return createHandlerContext({
    service: Filesystem,
    method: Filesystem.method.watchDir,
    protocolName: 'connect',
    requestMethod: 'POST',
    url: 'http://localhost/',
  });
}

test('a client that does not read fails the stream after what fits, and the watch ends at once', async (t) => {
  const path = await directory(t);
  for (const name of ['a', 'b']) writeFileSync(join(path, name), '');
  const inotify = new Inotify();
  const handler = handlerContext();
  t.after(() => handler.abort());
  const stream = watchStream(inotify, handler, { path, recursive: false, includeEntry: true });
  assert.equal((await stream.next()).value?.event.case, 'start');
  // Not faster than the watcher can look at the files, or the kernel's records would overflow first.
  while (inotify.isOpen) {
    for (let count = 0; count < 10; count += 1) for (const name of ['a', 'b']) chmodSync(join(path, name), 0o600);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  let events = 0;
  await assert.rejects(
    async () => {
      for await (const { event } of stream) if (event.case === 'filesystem') events += 1;
    },
    (error) => error instanceof ConnectError && error.code === Code.Internal && /too slowly/.test(error.rawMessage),
  );
  assert.ok(events > 10_000, `${events} events`);
});

test('a caller that has left already gets no watch', async (t) => {
  const inotify = new Inotify();
  const handler = handlerContext();
  handler.abort(new ConnectError('left', Code.Canceled));
  const options = { path: await directory(t), recursive: true, includeEntry: false };
  await assert.rejects(watchStream(inotify, handler, options).next(), /left/);
  assert.equal(inotify.isOpen, false);
});
