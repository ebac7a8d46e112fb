import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { connectNodeAdapter, createConnectTransport } from '@connectrpc/connect-node';
import { EventType, Filesystem, type FilesystemEvent, type WatchDirResponse } from '@nestbox/contract/filesystem';
import { Activity } from '../activity.ts';
import { AgentState } from '../state.ts';
import { filesystemService } from './service.ts';

const context = { state: new AgentState(), activity: new Activity(), runtimeDir: '/nonexistent', isInit: false };
const server = createServer(connectNodeAdapter({ routes: filesystemService(context) }));
let client: Client<typeof Filesystem>;
let root = '';

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'nestbox-watch-'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  client = createClient(Filesystem, createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false }));
});

after(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(root, { recursive: true, force: true });
});

let made = 0;
function fresh(): string {
  const path = join(root, `case-${++made}`);
  mkdirSync(path);
  return path;
}

const EVENT_NAMES = new Map<EventType, string>(Object.entries(EventType).map(([name, type]) => [type, name]));

function describeEvent({ name, type }: FilesystemEvent): string {
  return `${EVENT_NAMES.get(type)} ${name}`;
}

function inotifyDescriptors(): number {
  let count = 0;
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:inotify') count += 1;
    } catch {
      // The descriptor of the listing itself is closed by now.
    }
  }
  return count;
}

/** Waits for the server to have noticed that a client left; there is no event for it on this side. */
async function eventually(condition: () => boolean, signal: AbortSignal): Promise<void> {
  while (!condition()) {
    signal.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

interface WatchRequest {
  readonly path: string;
  readonly recursive?: boolean;
  readonly includeEntry?: boolean;
}

/** A WatchDir call whose start message has arrived; it ends with the test. */
async function watch(t: TestContext, request: WatchRequest, headers: Record<string, string> = {}) {
  const leave = new AbortController();
  t.after(() => leave.abort());
  const messages = client.watchDir(request, { signal: leave.signal, headers })[Symbol.asyncIterator]();
  const next = async (): Promise<WatchDirResponse['event']> => {
    const { value, done } = await messages.next();
    assert.ok(!done, 'the stream ended');
    return value.event;
  };
  assert.equal((await next()).case, 'start');

  async function nextEvent(): Promise<FilesystemEvent> {
    const event = await next();
    assert.ok(event.case === 'filesystem', `expected an event, got ${event.case}`);
    return event.value;
  }

  return {
    leave: () => leave.abort(),
    next,
    nextEvent,
    /** The events up to and with `last`, as text. */
    async until(last: string): Promise<string[]> {
      const seen: string[] = [];
      while (seen.at(-1) !== last) seen.push(describeEvent(await nextEvent()));
      return seen;
    },
  };
}

describe('watchDir', () => {
  test('reports creating, writing, changing the mode of, renaming and removing a file', async (t) => {
    const path = fresh();
    const watching = await watch(t, { path });
    writeFileSync(join(path, 'ä'), '');
    assert.deepEqual(await watching.until('CREATE ä'), ['CREATE ä']);
    appendFileSync(join(path, 'ä'), 'text');
    assert.deepEqual(await watching.until('WRITE ä'), ['WRITE ä']);
    chmodSync(join(path, 'ä'), 0o600);
    assert.deepEqual(await watching.until('CHMOD ä'), ['CHMOD ä']);
    renameSync(join(path, 'ä'), join(path, 'b'));
    assert.deepEqual(await watching.until('CREATE b'), ['RENAME ä', 'CREATE b']);
    rmSync(join(path, 'b'));
    assert.deepEqual(await watching.until('REMOVE b'), ['REMOVE b']);
  });

  test('does not look below the directory unless asked to', async (t) => {
    const path = fresh();
    mkdirSync(join(path, 'inner'));
    const watching = await watch(t, { path });
    writeFileSync(join(path, 'inner/unseen'), '');
    mkdirSync(join(path, 'new'));
    writeFileSync(join(path, 'new/unseen'), '');
    writeFileSync(join(path, 'end'), '');
    assert.deepEqual(await watching.until('CREATE end'), ['CREATE new', 'CREATE end']);
  });

  test('describes the file after creating, writing and changing the mode, if it is there and asked for', async (t) => {
    const path = fresh();
    const watching = await watch(t, { path, includeEntry: true });
    writeFileSync(join(path, 'a'), 'four');
    const created = await watching.nextEvent();
    assert.equal(created.type, EventType.CREATE);
    assert.equal(created.entry?.path, join(path, 'a'));
    const written = await watching.nextEvent();
    assert.equal(written.type, EventType.WRITE);
    assert.equal(written.entry?.size, 4n);
    rmSync(join(path, 'a'));
    const removed = await watching.nextEvent();
    assert.equal(removed.type, EventType.REMOVE);
    assert.equal(removed.entry, undefined);
  });

  test('reports what happens to the watched directory itself under the name of a dot', async (t) => {
    const path = fresh();
    const watching = await watch(t, { path });
    chmodSync(path, 0o700);
    assert.deepEqual(await watching.until('CHMOD .'), ['CHMOD .']);
    rmSync(path, { recursive: true });
    assert.deepEqual(await watching.until('REMOVE .'), ['REMOVE .']);
  });

  test('ends quietly with a directory that is moved away', async (t) => {
    const path = fresh();
    const watching = await watch(t, { path }, { 'Keepalive-Ping-Interval': '1' });
    renameSync(path, `${path}-moved`);
    assert.deepEqual(await watching.until('RENAME .'), ['RENAME .']);
    writeFileSync(join(`${path}-moved`, 'unseen'), '');
    assert.equal((await watching.next()).case, 'keepalive');
  });

  test('follows a link to a directory, with names relative to the link', async (t) => {
    const path = fresh();
    symlinkSync(path, `${path}-link`);
    const watching = await watch(t, { path: `${path}-link`, recursive: true });
    mkdirSync(join(path, 'a'));
    assert.deepEqual(await watching.until('CREATE a'), ['CREATE a']);
    writeFileSync(join(path, 'a/b'), '');
    assert.deepEqual(await watching.until('CREATE a/b'), ['CREATE a/b']);
  });

  test('sends keep-alive messages after the silence that the client asks for', async (t) => {
    const watching = await watch(t, { path: fresh() }, { 'Keepalive-Ping-Interval': '1' });
    assert.equal((await watching.next()).case, 'keepalive');
    assert.equal((await watching.next()).case, 'keepalive');
  });

  test('ends with deadline_exceeded when the time of the call is over', async () => {
    const messages = client.watchDir({ path: fresh() }, { timeoutMs: 200 });
    await assert.rejects(
      async () => {
        for await (const _ of messages);
      },
      (error) => error instanceof ConnectError && error.code === Code.DeadlineExceeded,
    );
  });

  test('refuses what is missing and what is no directory', async () => {
    const path = fresh();
    writeFileSync(join(path, 'file'), '');
    const codeOf = async (missing: string) => {
      const stream = client.watchDir({ path: missing })[Symbol.asyncIterator]();
      return stream.next().then(
        () => undefined,
        (error: unknown) => ConnectError.from(error).code,
      );
    };
    assert.equal(await codeOf(join(path, 'missing')), Code.NotFound);
    assert.equal(await codeOf(join(path, 'file')), Code.InvalidArgument);
  });
});

describe('a recursive watch', () => {
  test('reports what happens in directories that were there, with names from the watched one', async (t) => {
    const path = fresh();
    mkdirSync(join(path, 'a/b/c'), { recursive: true });
    const watching = await watch(t, { path, recursive: true });
    writeFileSync(join(path, 'a/b/c/file'), '');
    assert.deepEqual(await watching.until('CREATE a/b/c/file'), ['CREATE a/b/c/file']);
    chmodSync(join(path, 'a/b'), 0o700);
    assert.deepEqual(await watching.until('CHMOD a/b'), ['CHMOD a/b']);
    rmSync(join(path, 'a/b'), { recursive: true });
    assert.deepEqual(await watching.until('REMOVE a/b'), ['REMOVE a/b/c/file', 'REMOVE a/b/c', 'REMOVE a/b']);
  });

  test('reports each file once that is created together with its directories, at whatever moment', async (t) => {
    const path = fresh();
    const watching = await watch(t, { path, recursive: true });
    const expected: string[] = [];
    for (let round = 0; round < 40; round += 1) {
      mkdirSync(join(path, `${round}/inner/deep`), { recursive: true });
      expected.push(`CREATE ${round}`, `CREATE ${round}/inner`, `CREATE ${round}/inner/deep`);
      for (const name of ['x', 'inner/y', 'inner/deep/z']) {
        writeFileSync(join(path, `${round}/${name}`), '');
        expected.push(`CREATE ${round}/${name}`);
        // Lets the watcher come in at different moments of the next round.
        if (round % 3 === 1) await new Promise((resolve) => setImmediate(resolve));
      }
    }
    const seen: string[] = [];
    while (seen.length < expected.length) seen.push(describeEvent(await watching.nextEvent()));
    assert.deepEqual(new Set(seen), new Set(expected));
    assert.equal(new Set(seen).size, seen.length);
    writeFileSync(join(path, '39/inner/deep/later'), '');
    assert.deepEqual(await watching.until('CREATE 39/inner/deep/later'), ['CREATE 39/inner/deep/later']);
  });

  test('follows a directory that is renamed inside, and does not report its content anew', async (t) => {
    const path = fresh();
    mkdirSync(join(path, 'old/inner'), { recursive: true });
    writeFileSync(join(path, 'old/file'), '');
    const watching = await watch(t, { path, recursive: true });
    renameSync(join(path, 'old'), join(path, 'new'));
    writeFileSync(join(path, 'new/inner/file'), '');
    assert.deepEqual(await watching.until('CREATE new/inner/file'), [
      'RENAME old',
      'CREATE new',
      'CREATE new/inner/file',
    ]);
  });

  test('forgets a directory that is moved out, and reports one that is moved in with its content', async (t) => {
    const path = fresh();
    const elsewhere = fresh();
    mkdirSync(join(path, 'a/b'), { recursive: true });
    const watching = await watch(t, { path, recursive: true });
    renameSync(join(path, 'a'), join(elsewhere, 'a'));
    assert.deepEqual(await watching.until('RENAME a'), ['RENAME a']);
    // No event tells that the directory is forgotten; the watcher waits a moment for the other half of the rename.
    await new Promise((resolve) => setTimeout(resolve, 100));
    writeFileSync(join(elsewhere, 'a/b/file'), '');
    renameSync(join(elsewhere, 'a'), join(path, 'back'));
    assert.deepEqual(await watching.until('CREATE back/b/file'), [
      'CREATE back',
      'CREATE back/b',
      'CREATE back/b/file',
    ]);
    appendFileSync(join(path, 'back/b/file'), 'x');
    assert.deepEqual(await watching.until('WRITE back/b/file'), ['WRITE back/b/file']);
  });
});

describe('a polled watcher', () => {
  test('keeps events until they are fetched, each once and up to the moment of the call', async (t) => {
    const path = fresh();
    const { watcherId } = await client.createWatcher({ path, recursive: true, includeEntry: true });
    t.after(() => client.removeWatcher({ watcherId }).catch(() => undefined));
    assert.match(watcherId, /^w[0-9a-z]{20}$/);
    assert.deepEqual((await client.getWatcherEvents({ watcherId })).events, []);
    mkdirSync(join(path, 'a'));
    writeFileSync(join(path, 'a/file'), 'x');
    const { events } = await client.getWatcherEvents({ watcherId });
    assert.deepEqual(events.map(describeEvent).slice(0, 2), ['CREATE a', 'CREATE a/file']);
    assert.equal(events[1]?.entry?.path, join(path, 'a/file'));
    assert.deepEqual((await client.getWatcherEvents({ watcherId })).events, []);
  });

  test('is not known any more once it is removed', async () => {
    const { watcherId } = await client.createWatcher({ path: fresh() });
    await client.removeWatcher({ watcherId });
    const isNotFound = (error: unknown) => error instanceof ConnectError && error.code === Code.NotFound;
    await assert.rejects(client.getWatcherEvents({ watcherId }), isNotFound);
    await assert.rejects(client.removeWatcher({ watcherId }), isNotFound);
  });

  test('refuses what is missing and what is no directory', async () => {
    const path = fresh();
    writeFileSync(join(path, 'file'), '');
    const has = (code: Code) => (error: unknown) => error instanceof ConnectError && error.code === code;
    await assert.rejects(client.createWatcher({ path: join(path, 'missing') }), has(Code.NotFound));
    await assert.rejects(client.createWatcher({ path: join(path, 'file') }), has(Code.InvalidArgument));
  });
});

test('a flood that the kernel drops events of fails the watchers instead of leaving gaps', async (t) => {
  const path = fresh();
  for (const name of ['a', 'b']) writeFileSync(join(path, name), '');
  const watching = await watch(t, { path });
  const { watcherId } = await client.createWatcher({ path });
  t.after(() => client.removeWatcher({ watcherId }));
  // In one turn of this process' event loop, so that nobody reads; alternating, since the kernel merges equal neighbours.
  for (let round = 0; round < 10_000; round += 1) for (const name of ['a', 'b']) chmodSync(join(path, name), 0o600);
  const isOverflow = (error: unknown) =>
    error instanceof ConnectError && error.code === Code.Internal && /overflow/.test(error.rawMessage);
  await assert.rejects(client.getWatcherEvents({ watcherId }), isOverflow);
  await assert.rejects(client.getWatcherEvents({ watcherId }), isOverflow);
  await assert.rejects(async () => {
    for (;;) await watching.next();
  }, isOverflow);
});

test('watchers share one inotify descriptor, which is closed when the last has gone', {
  timeout: 20_000,
}, async (t) => {
  await eventually(() => inotifyDescriptors() === 0, t.signal);
  const path = fresh();
  const first = await watch(t, { path });
  const second = await watch(t, { path, recursive: true });
  const { watcherId } = await client.createWatcher({ path: fresh() });
  assert.equal(inotifyDescriptors(), 1);
  first.leave();
  await client.removeWatcher({ watcherId });
  writeFileSync(join(path, 'seen'), '');
  assert.deepEqual(await second.until('CREATE seen'), ['CREATE seen']);
  second.leave();
  await eventually(() => inotifyDescriptors() === 0, t.signal);
});
