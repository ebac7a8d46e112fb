import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, on } from 'node:events';
import { test } from 'node:test';
import {
  FileNotFoundError,
  type FilesystemEvent,
  FilesystemEventType,
  FileType,
  InvalidArgumentError,
  TimeoutError,
} from 'e2b';
import { forEachAddressing } from '../support/each-addressing.ts';

/** Waits until `wanted` has been seen among a watcher's events. */
function eventQueue() {
  const emitter = new EventEmitter();
  const seen: FilesystemEvent[] = [];
  return {
    seen,
    push(event: FilesystemEvent) {
      seen.push(event);
      emitter.emit('event', event);
    },
    async until(wanted: (event: FilesystemEvent) => boolean): Promise<FilesystemEvent> {
      const found = seen.find(wanted);
      if (found !== undefined) return found;
      for await (const [event] of on(emitter, 'event', { signal: AbortSignal.timeout(30_000) })) {
        if (wanted(event)) return event;
      }
      throw new Error('unreachable');
    },
  };
}

forEachAddressing('files of the e2b client', { sandbox: {} }, (suite) => {
  test('text is written and read back, with the folders above made', async () => {
    const { files } = suite.sandbox;
    const written = await files.write('deep/er/note.txt', 'grüße\n');
    assert.equal(written.path, '/home/user/deep/er/note.txt');
    assert.equal(written.name, 'note.txt');
    assert.equal(await files.read('deep/er/note.txt'), 'grüße\n');
    const { stdout } = await suite.sandbox.commands.run('stat -c "%U %G %a" deep deep/er/note.txt');
    assert.equal(stdout, 'user user 755\nuser user 644\n');
  });

  test('an empty file is a file', async () => {
    const { files } = suite.sandbox;
    await files.write('/tmp/empty', '');
    assert.equal(await files.read('/tmp/empty'), '');
    assert.equal((await files.read('/tmp/empty', { format: 'bytes' })).length, 0);
    assert.equal((await files.getInfo('/tmp/empty')).size, 0);
  });

  test('binary content survives every way in and out', async () => {
    const { files } = suite.sandbox;
    const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => index & 0xff);
    const ways = [
      ['multipart', {}],
      ['octets', { useOctetStream: true }],
      ['gzip', { gzip: true }],
    ] as const;
    for (const [name, options] of ways) {
      await files.write(`/tmp/binary-${name}`, bytes.slice().buffer, options);
      assert.deepEqual(await files.read(`/tmp/binary-${name}`, { format: 'bytes' }), bytes);
      assert.deepEqual(await files.read(`/tmp/binary-${name}`, { format: 'bytes', gzip: true }), bytes);
      assert.equal((await files.read(`/tmp/binary-${name}`, { format: 'blob' })).size, bytes.length);
    }
  });

  test('20 MB stream in and out unchanged', async () => {
    const { files, commands } = suite.sandbox;
    const bytes = randomBytes(20_000_000);
    const digest = createHash('sha256').update(bytes).digest('hex');
    await files.write('/tmp/large', new Blob([bytes]).stream());
    assert.equal((await commands.run('sha256sum < /tmp/large')).stdout, `${digest}  -\n`);
    const hash = createHash('sha256');
    for await (const piece of await files.read('/tmp/large', { format: 'stream' })) hash.update(piece);
    assert.equal(hash.digest('hex'), digest);
  });

  test('names may hold any letter', async () => {
    const { files } = suite.sandbox;
    for (const name of ['with space', 'ünï¢ødé 文件 🎉', 'qu\'ote"s', 'a&b=c?d#e%20f+g', '-dash', 'tab\tand\nline']) {
      const path = `/tmp/names/${name}`;
      await files.write(path, name);
      assert.equal(await files.read(path), name);
      assert.equal((await files.getInfo(path)).name, name);
      assert.equal(await files.exists(path), true);
    }
    assert.equal((await files.list('/tmp/names')).length, 6);
  });

  test('several files are written in one request', async () => {
    const { files } = suite.sandbox;
    const written = await files.write([
      { path: '/tmp/many/a.txt', data: 'a' },
      { path: '/tmp/many/b/c.txt', data: 'c' },
    ]);
    assert.deepEqual(
      written.map(({ path }) => path),
      ['/tmp/many/a.txt', '/tmp/many/b/c.txt'],
    );
    assert.equal(await files.read('/tmp/many/b/c.txt'), 'c');
  });

  test('several files come from texts, bytes, blobs and streams at once', async () => {
    const { files } = suite.sandbox;
    const bytes = Uint8Array.from({ length: 1000 }, (_, index) => index & 0xff);
    const written = await files.writeFiles(
      [
        { path: '/tmp/mixed/text', data: 'text' },
        { path: '/tmp/mixed/bytes', data: bytes.slice().buffer },
        { path: '/tmp/mixed/blob', data: new Blob([bytes]) },
        { path: '/tmp/mixed/stream', data: new Blob([bytes]).stream() },
      ],
      { user: 'root' },
    );
    assert.deepEqual(
      written.map(({ name }) => name),
      ['text', 'bytes', 'blob', 'stream'],
    );
    for (const name of ['bytes', 'blob', 'stream'])
      assert.deepEqual(await files.read(`/tmp/mixed/${name}`, { format: 'bytes' }), bytes);
    const info = await files.getInfo('/tmp/mixed/text');
    assert.deepEqual([info.owner, info.group, info.mode, info.type], ['root', 'root', 0o644, FileType.FILE]);
    assert.ok(Math.abs((info.modifiedTime?.getTime() ?? 0) - Date.now()) < 60_000);
  });

  test('a folder is listed to the depth asked for, with kinds and links', async () => {
    const { files, commands } = suite.sandbox;
    await commands.run('mkdir -p /tmp/tree/sub/deeper && echo 12345 > /tmp/tree/file && ln -s file /tmp/tree/link');
    const flat = await files.list('/tmp/tree');
    assert.deepEqual(
      new Map(flat.map(({ name, type }) => [name, type])),
      new Map([
        ['file', FileType.FILE],
        ['link', FileType.FILE],
        ['sub', FileType.DIR],
      ]),
    );
    assert.equal(flat.find(({ name }) => name === 'link')?.symlinkTarget, '/tmp/tree/file');
    const file = flat.find(({ name }) => name === 'file');
    assert.deepEqual([file?.size, file?.owner, file?.permissions], [6, 'user', '-rw-r--r--']);
    const deep = await files.list('/tmp/tree', { depth: 2 });
    assert.ok(deep.some(({ path }) => path === '/tmp/tree/sub/deeper'));
    await assert.rejects(files.list('/tmp/no-such-folder'), FileNotFoundError);
    await assert.rejects(files.list('/tmp/tree/file'), InvalidArgumentError);
  });

  test('folders are made once; files are moved, looked at and removed', async () => {
    const { files } = suite.sandbox;
    assert.equal(await files.makeDir('/tmp/made/inside'), true);
    assert.equal(await files.makeDir('/tmp/made/inside'), false);
    await files.write('/tmp/made/one', 'x');
    const moved = await files.rename('/tmp/made/one', '/tmp/made/two');
    assert.deepEqual([moved.name, moved.type, moved.size], ['two', FileType.FILE, 1]);
    assert.equal(await files.exists('/tmp/made/one'), false);
    await files.remove('/tmp/made');
    assert.equal(await files.exists('/tmp/made/inside'), false);
    await files.remove('/tmp/made');
    await assert.rejects(files.rename('/tmp/made', '/tmp/elsewhere'), FileNotFoundError);
    await assert.rejects(files.getInfo('/tmp/made'), FileNotFoundError);
    await assert.rejects(files.read('/tmp/made'), FileNotFoundError);
  });

  test('metadata is stored with a file and replaced with it', async () => {
    const { files } = suite.sandbox;
    await files.write('/home/user/labelled', 'x', { metadata: { Colour: 'dark red', kind: 'note' } });
    assert.deepEqual((await files.getInfo('/home/user/labelled')).metadata, { colour: 'dark red', kind: 'note' });
    await files.write('/home/user/labelled', 'y');
    assert.equal((await files.getInfo('/home/user/labelled')).metadata, undefined);
    await assert.rejects(files.write('/home/user/labelled', 'z', { metadata: { ü: 'x' } }), InvalidArgumentError);
  });

  test('a watcher tells what happens in its folder and nothing of the folders below', async () => {
    const { files, commands } = suite.sandbox;
    await files.makeDir('/tmp/watched/below');
    const events = eventQueue();
    const watcher = await files.watchDir('/tmp/watched', events.push);
    await commands.run(
      'cd /tmp/watched && touch below/unseen && echo 1 > new && chmod 600 new && mv new renamed && rm renamed',
    );
    await events.until(({ name, type }) => name === 'new' && type === FilesystemEventType.CREATE);
    await events.until(({ name, type }) => name === 'new' && type === FilesystemEventType.WRITE);
    await events.until(({ name, type }) => name === 'new' && type === FilesystemEventType.CHMOD);
    await events.until(({ name, type }) => name === 'new' && type === FilesystemEventType.RENAME);
    await events.until(({ name, type }) => name === 'renamed' && type === FilesystemEventType.CREATE);
    await events.until(({ name, type }) => name === 'renamed' && type === FilesystemEventType.REMOVE);
    assert.ok(events.seen.every(({ name }) => !name.includes('unseen')));
    await watcher.stop();
  });

  test('a recursive watcher sees folders that are made later, and tells entries', async () => {
    const { files } = suite.sandbox;
    await files.makeDir('/tmp/watched-deep');
    const events = eventQueue();
    const watcher = await files.watchDir('/tmp/watched-deep', events.push, { recursive: true, includeEntry: true });
    await files.makeDir('/tmp/watched-deep/later');
    await events.until(({ name, type }) => name === 'later' && type === FilesystemEventType.CREATE);
    await files.write('/tmp/watched-deep/later/file', 'content');
    const written = await events.until(
      ({ name, type, entry }) => name === 'later/file' && type === FilesystemEventType.WRITE && entry !== undefined,
    );
    assert.equal(written.entry?.type, FileType.FILE);
    await watcher.stop();
    await assert.rejects(files.watchDir('/tmp/no-such-folder', events.push), FileNotFoundError);
  });

  test('paths that make no sense are refused', async () => {
    const { files } = suite.sandbox;
    await assert.rejects(files.read('~nobody/x'), InvalidArgumentError);
    await assert.rejects(files.write('/tmp', 'x'), InvalidArgumentError);
    await assert.rejects(files.read('/tmp'), InvalidArgumentError);
    await assert.rejects(files.write(`/tmp/${'x'.repeat(5000)}`, 'x'));
    await assert.rejects(files.write('/tmp/nul\0byte', 'x'));
    // Harmless dots: the guest has its own root, and nothing above it.
    assert.equal((await files.write('/tmp/a/../../../tmp/dots', 'x')).name, 'dots');
    assert.equal(await files.read('/tmp/dots'), 'x');
  });

  test('files belong to the user who is named', async () => {
    const { files, commands } = suite.sandbox;
    await files.write('note', 'x', { user: 'root' });
    assert.equal((await commands.run('stat -c "%U" /root/note', { user: 'root' })).stdout, 'root\n');
  });

  test('a disk that is full is told as such', async () => {
    const { files, commands } = suite.sandbox;
    await commands.run('sudo mkdir -p /tmp/small && sudo mount -t tmpfs -o size=1m,mode=777 none /tmp/small');
    await assert.rejects(files.write('/tmp/small/too-large', new Uint8Array(3_000_000).buffer), /space|507/i);
    await commands.run('sudo umount /tmp/small');
  });

  // Waiting is the same in both.
  if (suite.addressing === 'domain') return;

  test('a watcher ends when its time is over, and says so', async () => {
    const { promise: ended, resolve } = Promise.withResolvers<Error | undefined>();
    await suite.sandbox.files.watchDir('/tmp', () => {}, { timeoutMs: 4000, onExit: resolve });
    assert.ok((await ended) instanceof TimeoutError);
  });
});
