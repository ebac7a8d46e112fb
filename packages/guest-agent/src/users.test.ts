import assert from 'node:assert/strict';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { Accounts, parseGroup, parsePasswd } from './users.ts';

async function etc(t: TestContext, files: Readonly<Record<string, string>>): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'nestbox-etc-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  return dir;
}

test('a user has every group that names them, their own first and once', async (t) => {
  const dir = await etc(t, {
    passwd: 'root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:Ada,,,:/home/ada:/bin/zsh\n',
    group: 'root:x:0:\nsudo:x:27:bob,ada\nada:x:1000:ada\ndocker:x:998:ada\nadata:x:77:adata\n',
  });
  const accounts = new Accounts(dir);
  assert.deepEqual(accounts.lookupUser('ada'), {
    name: 'ada',
    uid: 1000,
    gid: 1000,
    groups: [1000, 27, 998],
    home: '/home/ada',
    shell: '/bin/zsh',
  });
  assert.equal(accounts.lookupUser('bob'), undefined);
  assert.equal(accounts.userName(1000), 'ada');
  assert.equal(accounts.userName(4711), '4711');
  assert.equal(accounts.groupName(27), 'sudo');
  assert.equal(accounts.groupName(4711), '4711');
});

test('root exists in a root file system without any account', async (t) => {
  const accounts = new Accounts(await etc(t, {}));
  assert.deepEqual(accounts.lookupUser('root')?.groups, [0]);
  assert.equal(accounts.lookupUser('root')?.home, '/root');
  assert.equal(accounts.userName(0), 'root');
  assert.equal(accounts.groupName(0), 'root');
});

test('an account that was added, replaced or removed is seen at the next look', async (t) => {
  const dir = await etc(t, { passwd: 'root:x:0:0::/root:/bin/sh\n', group: '' });
  const accounts = new Accounts(dir);
  assert.equal(accounts.lookupUser('new'), undefined);
  await writeFile(join(dir, 'passwd~'), 'root:x:0:0::/root:/bin/sh\nnew:x:5:6::/n:/bin/sh\n');
  await rename(join(dir, 'passwd~'), join(dir, 'passwd'));
  assert.equal(accounts.lookupUser('new')?.uid, 5);
  await writeFile(join(dir, 'group'), 'extra:x:9:new\n');
  assert.deepEqual(accounts.lookupUser('new')?.groups, [6, 9]);
  await rm(join(dir, 'passwd'));
  assert.equal(accounts.lookupUser('new'), undefined);
});

test('damaged lines, comments and NIS markers are skipped, the lines around them are not', () => {
  const text = [
    '# comment:x:1:1::/:/bin/sh',
    '+::::::',
    'short:x:1',
    'negative:x:-1:1::/:/bin/sh',
    'huge:x:99999999999:1::/:/bin/sh',
    'word:x:one:1::/:/bin/sh',
    'good:x:7:8::/home/good:',
    '',
  ].join('\n');
  assert.deepEqual(parsePasswd(text), [{ name: 'good', uid: 7, gid: 8, home: '/home/good', shell: '/bin/sh' }]);
});

const PLAIN = { noNullPrototype: true } as const;
const name = fc.stringMatching(/^[a-z_][a-z0-9_-]{0,15}$/);
const id = fc.integer({ min: 0, max: 0xffff_fffe });
const path = fc.stringMatching(/^\/[a-zA-Z0-9/._-]{0,30}$/);

test('what was written as passwd and group lines is read back', () => {
  const entry = fc.record({ name, uid: id, gid: id, home: path, shell: path }, PLAIN);
  fc.assert(
    fc.property(fc.array(entry), (entries) => {
      const text = entries.map((e) => `${e.name}:x:${e.uid}:${e.gid}:gecos:${e.home}:${e.shell}\n`).join('');
      assert.deepEqual(parsePasswd(text), entries);
    }),
  );
  fc.assert(
    fc.property(fc.array(fc.record({ name, gid: id, members: fc.array(name) }, PLAIN)), (entries) => {
      const text = entries.map((e) => `${e.name}:x:${e.gid}:${e.members.join(',')}\n`).join('');
      assert.deepEqual(parseGroup(text), entries);
    }),
  );
});

test('no text breaks the parsers, and every id they answer is one', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
      for (const { uid, gid, name } of parsePasswd(text)) {
        assert.ok(Number.isSafeInteger(uid) && uid >= 0 && Number.isSafeInteger(gid) && gid >= 0 && name !== '');
      }
      for (const { gid } of parseGroup(text)) assert.ok(Number.isSafeInteger(gid) && gid >= 0);
    }),
  );
});
