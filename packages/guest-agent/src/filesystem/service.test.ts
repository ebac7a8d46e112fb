import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  lutimesSync,
  mkdirSync,
  openSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { connectNodeAdapter, createConnectTransport } from '@connectrpc/connect-node';
import { Filesystem, FileType } from '@nestbox/contract/filesystem';
import { Activity } from '../activity.ts';
import { requestUserInterceptor } from '../rpc/request-user.ts';
import { AgentState } from '../state.ts';
import { setXattrOnFile } from '../system/xattr.ts';
import { lookupUser } from '../users.ts';
import { filesystemService } from './service.ts';

const state = new AgentState();
const context = { state, activity: new Activity(), runtimeDir: '/nonexistent', isInit: false };
const server = createServer(
  connectNodeAdapter({ routes: filesystemService(context), interceptors: [requestUserInterceptor] }),
);
let origin = '';
let root = '';
const clients: Record<'JSON' | 'binary', Client<typeof Filesystem> | undefined> = {
  JSON: undefined,
  binary: undefined,
};

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'nestbox-filesystem-'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  for (const format of ['JSON', 'binary'] as const) {
    const transport = createConnectTransport({
      baseUrl: origin,
      httpVersion: '1.1',
      useBinaryFormat: format === 'binary',
    });
    clients[format] = createClient(Filesystem, transport);
  }
});

after(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(root, { recursive: true, force: true });
});

function client(format: 'JSON' | 'binary' = 'JSON'): Client<typeof Filesystem> {
  const found = clients[format];
  assert.ok(found);
  return found;
}

function as(user: string) {
  return { headers: { Authorization: `Basic ${Buffer.from(`${user}:`).toString('base64')}` } };
}

function fails(promise: Promise<unknown>, code: Code, text = /./) {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(Code[error.code], Code[code]);
    assert.match(error.rawMessage, text);
    return true;
  });
}

let made = 0;
function fresh(): string {
  const path = join(root, `case-${++made}`);
  mkdirSync(path);
  return path;
}

for (const format of ['JSON', 'binary'] as const) {
  test(`stat describes a regular file over ${format}`, async () => {
    const path = join(fresh(), 'größe 🥚.txt');
    writeFileSync(path, 'twelve bytes');
    chmodSync(path, 0o4640);
    utimesSync(path, 1_700_000_000.25, 1_700_000_000.25);
    const { entry } = await client(format).stat({ path });
    assert.ok(entry);
    assert.deepEqual(
      { ...entry, $typeName: undefined, modifiedTime: { ...entry.modifiedTime, $typeName: undefined } },
      {
        $typeName: undefined,
        name: 'größe 🥚.txt',
        type: FileType.FILE,
        path,
        size: 12n,
        mode: 0o640,
        permissions: 'urw-r-----',
        owner: 'root',
        group: 'root',
        modifiedTime: { $typeName: undefined, seconds: 1_700_000_000n, nanos: 250_000_000 },
        metadata: {},
      },
    );
  });
}

describe('stat', () => {
  test('shows a directory, and the root with a name', async () => {
    const path = fresh();
    chmodSync(path, 0o1777);
    const { entry } = await client().stat({ path });
    assert.equal(entry?.type, FileType.DIRECTORY);
    assert.equal(entry.permissions, 'dtrwxrwxrwx');
    assert.equal(entry.mode, 0o777);
    assert.equal((await client().stat({ path: '/' })).entry?.name, '/');
  });

  test('gives a link the type and mode of what it leads to, and its own size, time and permissions', async () => {
    const directory = fresh();
    writeFileSync(join(directory, 'file'), 'abc');
    chmodSync(join(directory, 'file'), 0o600);
    symlinkSync('file', join(directory, 'one'));
    symlinkSync('one', join(directory, 'two'));
    lutimesSync(join(directory, 'two'), 1000, 1000);
    const { entry } = await client().stat({ path: join(directory, 'two') });
    assert.ok(entry);
    assert.equal(entry.type, FileType.FILE);
    assert.equal(entry.mode, 0o600);
    assert.equal(entry.symlinkTarget, join(directory, 'file'));
    assert.equal(entry.permissions, 'Lrwxrwxrwx');
    assert.equal(entry.size, 3n);
    assert.equal(entry.modifiedTime?.seconds, 1000n);
  });

  test('shows links that lead nowhere or in a circle as of unknown type, with their own path as target', async () => {
    const directory = fresh();
    symlinkSync('missing', join(directory, 'dangling'));
    symlinkSync('circle', join(directory, 'circle'));
    for (const name of ['dangling', 'circle']) {
      const path = join(directory, name);
      const { entry } = await client().stat({ path });
      assert.equal(entry?.type, FileType.UNSPECIFIED);
      assert.equal(entry.mode, 0);
      assert.equal(entry.symlinkTarget, path);
    }
  });

  test('shows what is neither file nor directory as of unknown type', async () => {
    const { entry } = await client().stat({ path: '/dev/null' });
    assert.equal(entry?.type, FileType.UNSPECIFIED);
    assert.equal(entry.permissions, 'Dcrw-rw-rw-');
  });

  test('names an owner without a name by number', async () => {
    const path = join(fresh(), 'file');
    writeFileSync(path, '');
    execFileSync('chown', ['4000000:4000001', path]);
    const { entry } = await client().stat({ path });
    assert.equal(entry?.owner, '4000000');
    assert.equal(entry.group, '4000001');
  });

  test('answers not_found for what is missing', async () => {
    await fails(client().stat({ path: join(root, 'missing') }), Code.NotFound, /^file not found: /);
  });

  test('answers internal for a path through a file', async () => {
    const path = join(fresh(), 'file');
    writeFileSync(path, '');
    await fails(client().stat({ path: join(path, 'below') }), Code.Internal, /ENOTDIR/);
  });
});

describe('every method', () => {
  const methods = {
    stat: (path: string) => client().stat({ path }),
    makeDir: (path: string) => client().makeDir({ path }),
    move: (path: string) => client().move({ source: path, destination: join(root, 'anywhere') }),
    'move (destination)': (path: string) => client().move({ source: root, destination: path }),
    listDir: (path: string) => client().listDir({ path }),
    remove: (path: string) => client().remove({ path }),
    createWatcher: (path: string) => client().createWatcher({ path }),
    watchDir: (path: string) => client().watchDir({ path })[Symbol.asyncIterator]().next(),
  };

  for (const [name, method] of Object.entries(methods)) {
    test(`${name} refuses another user's home, NUL bytes and endless names as invalid`, async () => {
      await fails(method('~daemon/x'), Code.InvalidArgument, /user-specific home/);
      await fails(method('/tmp/a\0b'), Code.InvalidArgument, /NUL/);
      await fails(method(`/${'x'.repeat(5000)}`), Code.InvalidArgument, /ENAMETOOLONG/);
    });
  }

  test('refuses users that do not exist', async () => {
    await fails(client().stat({ path: '/' }, as('nobody-at-all')), Code.Unauthenticated, /nobody-at-all/);
    state.defaultUser = 'gone';
    try {
      await fails(client().stat({ path: '/' }), Code.Unauthenticated, /gone/);
    } finally {
      state.defaultUser = 'root';
    }
  });

  test('takes an empty path as the default workdir and a relative one from the home of the user', async () => {
    const home = lookupUser('daemon')?.home;
    assert.ok(home);
    assert.equal((await client().stat({ path: '' }, as('daemon'))).entry?.path, home);
    assert.equal((await client().stat({ path: '.' }, as('daemon'))).entry?.path, home);
    state.defaultWorkdir = root;
    try {
      assert.equal((await client().stat({ path: '' }, as('daemon'))).entry?.path, root);
    } finally {
      state.defaultWorkdir = undefined;
    }
  });
});

describe('makeDir', () => {
  test('makes the parents, too, and gives only new directories to the user', async () => {
    const directory = fresh();
    const { entry } = await client().makeDir({ path: join(directory, 'a/b') }, as('daemon'));
    assert.equal(entry?.name, 'b');
    assert.equal(entry.type, FileType.DIRECTORY);
    assert.equal(entry.owner, 'daemon');
    assert.equal(entry.group, 'daemon');
    assert.equal(entry.permissions, 'drwxr-xr-x');
    assert.equal((await client().stat({ path: join(directory, 'a') })).entry?.owner, 'daemon');
    assert.equal((await client().stat({ path: directory })).entry?.owner, 'root');
  });

  test('goes through .. as mkdir -p does', async () => {
    const directory = fresh();
    await client().makeDir({ path: `${directory}/a/../b/` });
    assert.ok(statSync(join(directory, 'b')).isDirectory());
  });

  test('refuses what exists already', async () => {
    const directory = fresh();
    await fails(client().makeDir({ path: directory }), Code.AlreadyExists);
    symlinkSync(directory, join(directory, 'link'));
    await fails(client().makeDir({ path: join(directory, 'link') }), Code.AlreadyExists);
    writeFileSync(join(directory, 'file'), '');
    await fails(client().makeDir({ path: join(directory, 'file') }), Code.InvalidArgument);
    await fails(client().makeDir({ path: join(directory, 'file/below') }), Code.Internal);
  });

  test('serves two requests for the same tree at once', async () => {
    const directory = fresh();
    const both = await Promise.allSettled([
      client().makeDir({ path: join(directory, 'a/b/c') }),
      client().makeDir({ path: join(directory, 'a/b/d') }),
    ]);
    assert.deepEqual(
      both.map(({ status }) => status),
      ['fulfilled', 'fulfilled'],
    );
  });
});

describe('move', () => {
  test('makes the parents of the destination for the user and replaces a file there', async () => {
    const directory = fresh();
    writeFileSync(join(directory, 'from'), 'new');
    const destination = join(directory, 'x/y/to');
    const { entry } = await client().move({ source: join(directory, 'from'), destination }, as('daemon'));
    assert.equal(entry?.path, destination);
    assert.equal(entry.size, 3n);
    assert.equal((await client().stat({ path: join(directory, 'x') })).entry?.owner, 'daemon');
    writeFileSync(join(directory, 'other'), 'newest');
    await client().move({ source: join(directory, 'other'), destination });
    assert.equal(statSync(destination).size, 6);
  });

  test('moves a link itself', async () => {
    const directory = fresh();
    symlinkSync('missing', join(directory, 'link'));
    const { entry } = await client().move({ source: join(directory, 'link'), destination: join(directory, 'moved') });
    assert.equal(entry?.permissions, 'Lrwxrwxrwx');
  });

  test('answers not_found without a source and makes no parents then', async () => {
    const directory = fresh();
    await fails(
      client().move({ source: join(directory, 'missing'), destination: join(directory, 'x/y') }),
      Code.NotFound,
    );
    await fails(client().stat({ path: join(directory, 'x') }), Code.NotFound);
  });

  test('answers internal where rename(2) refuses', async () => {
    const directory = fresh();
    mkdirSync(join(directory, 'a'));
    await fails(client().move({ source: join(directory, 'a'), destination: join(directory, 'a/b') }), Code.Internal);
  });
});

describe('listDir', () => {
  function tree(): string {
    const directory = fresh();
    mkdirSync(join(directory, 'b/inner/deep'), { recursive: true });
    writeFileSync(join(directory, 'b/z'), '');
    writeFileSync(join(directory, 'a'), '');
    writeFileSync(join(directory, 'B'), '');
    writeFileSync(join(directory, 'b.txt'), '');
    symlinkSync('b', join(directory, 'c'));
    symlinkSync('nothing', join(directory, 'd'));
    return directory;
  }

  async function paths(path: string, depth: number): Promise<string[]> {
    const { entries } = await client().listDir({ path, depth });
    return entries.map((entry) => entry.path.slice(path.length));
  }

  test('lists one level by default, in the order of bytes, without following links', async () => {
    const expected = ['/B', '/a', '/b', '/b.txt', '/c', '/d'];
    assert.deepEqual(await paths(tree(), 0), expected);
    assert.deepEqual(await paths(tree(), 1), expected);
  });

  test('walks depth first as many levels as asked for', async () => {
    assert.deepEqual(await paths(tree(), 2), ['/B', '/a', '/b', '/b/inner', '/b/z', '/b.txt', '/c', '/d']);
    const everything = ['/B', '/a', '/b', '/b/inner', '/b/inner/deep', '/b/z', '/b.txt', '/c', '/d'];
    assert.deepEqual(await paths(tree(), 4_294_967_295), everything);
  });

  test('shows entries below a link under the path that was asked for', async () => {
    const directory = tree();
    const { entries } = await client().listDir({ path: join(directory, 'c') });
    assert.deepEqual(
      entries.map(({ path }) => path),
      [join(directory, 'c/inner'), join(directory, 'c/z')],
    );
  });

  test('lists an empty directory, and more entries than are asked for at once in order', async () => {
    const directory = fresh();
    assert.deepEqual((await client().listDir({ path: directory })).entries, []);
    const names = Array.from({ length: 150 }, (_, index) => `n${String(index).padStart(3, '0')}`);
    for (const name of names) writeFileSync(join(directory, name), '');
    const { entries } = await client().listDir({ path: directory });
    assert.deepEqual(
      entries.map(({ name }) => name),
      names,
    );
  });

  test('tells a missing path, a circle of links and a file apart', async () => {
    const directory = tree();
    symlinkSync('circle', join(directory, 'circle'));
    await fails(client().listDir({ path: join(directory, 'missing') }), Code.NotFound);
    await fails(client().listDir({ path: join(directory, 'd') }), Code.NotFound);
    await fails(client().listDir({ path: join(directory, 'circle') }), Code.FailedPrecondition);
    await fails(client().listDir({ path: join(directory, 'a') }), Code.InvalidArgument);
  });
});

describe('remove', () => {
  test('removes a tree, and a link without what it leads to', async () => {
    const directory = fresh();
    mkdirSync(join(directory, 'tree/below'), { recursive: true });
    writeFileSync(join(directory, 'tree/below/file'), '');
    mkdirSync(join(directory, 'kept'));
    symlinkSync('../kept', join(directory, 'tree/link'));
    await client().remove({ path: join(directory, 'tree') });
    assert.deepEqual(
      (await client().listDir({ path: directory })).entries.map(({ name }) => name),
      ['kept'],
    );
  });

  test('succeeds when there is nothing, and refuses the root', async () => {
    await client().remove({ path: join(root, 'missing') });
    await fails(client().remove({ path: '/tmp/..' }), Code.InvalidArgument);
  });
});

test('metadata of the extended attributes is shown, and what is not ours or no text is not', async (t) => {
  const path = join(fresh(), 'file');
  writeFileSync(path, '');
  const fd = openSync(path, 'r+');
  try {
    setXattrOnFile(fd, 'user.e2b.author', Buffer.from('ada'));
    setXattrOnFile(fd, 'user.other', Buffer.from('x'));
    setXattrOnFile(fd, 'user.e2b.broken', Buffer.from([0xff, 0xfe]));
  } catch (error) {
    return t.skip(`the file system of the temporary directory has no extended attributes: ${String(error)}`);
  } finally {
    closeSync(fd);
  }
  assert.deepEqual((await client().stat({ path })).entry?.metadata, { author: 'ada' });
});
