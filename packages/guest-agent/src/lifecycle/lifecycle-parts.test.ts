import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { forgetHost, setHost, withHost } from '../init/hosts-file.ts';
import { RestError } from '../rest.ts';
import { TrustStore } from './ca-bundle.ts';
import { mustSetClock } from './clock-correction.ts';
import { parseTimestamp } from './timestamp.ts';

const MS = 1_000_000n;

test('the clock is set when it is more than 50 ms behind or more than 5 s ahead', () => {
  const host = 1_000_000_000_000n;
  for (const [guest, expected] of [
    [host, false],
    [host - 50n * MS, false],
    [host - 51n * MS, true],
    [host + 5_000n * MS, false],
    [host + 5_001n * MS, true],
  ] as const) {
    assert.equal(mustSetClock(guest, host), expected);
  }
});

test('timestamps are read to the microsecond, in any zone', () => {
  assert.equal(parseTimestamp('1970-01-01T00:00:01Z'), 1_000_000);
  assert.equal(parseTimestamp('1970-01-01T00:00:00.000001999Z'), 1);
  assert.equal(parseTimestamp('1970-01-01t01:00:00.5+01:00'), 500_000);
  assert.equal(parseTimestamp('2026-03-04T05:06:07.1234567891Z'), parseTimestamp('2026-03-04T05:06:07.123456789Z'));
  for (const text of ['', 'now', '2026-03-04', '2026-03-04T05:06:07', '2026-13-04T05:06:07Z']) {
    assert.equal(parseTimestamp(text), undefined, text);
  }
  fc.assert(
    fc.property(fc.date({ min: new Date(0), max: new Date('9999-01-01'), noInvalidDate: true }), (date) => {
      assert.equal(parseTimestamp(date.toISOString()), date.getTime() * 1000);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => void parseTimestamp(text)));
});

test('a name in the hosts file replaces our earlier one, and nothing else', () => {
  const first = withHost('127.0.0.1 localhost\n# mine\n', 'host name', '127.0.1.1', 'a');
  assert.equal(first, '127.0.0.1 localhost\n# mine\n127.0.1.1\ta\t# nestbox: host name\n');
  const second = withHost(withHost(first, 'events', '10.0.0.1', 'events.local'), 'host name', '127.0.1.1', 'b');
  assert.equal(
    second,
    '127.0.0.1 localhost\n# mine\n10.0.0.1\tevents.local\t# nestbox: events\n127.0.1.1\tb\t# nestbox: host name\n',
  );
});

test('a hosts file that is missing is made with localhost in it', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nestbox-hosts-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  setHost('host name', '127.0.1.1', 'box', join(dir, 'hosts'));
  const path = join(dir, 'hosts');
  assert.match(await readFile(path, 'utf8'), /^127\.0\.0\.1\tlocalhost\n[\s\S]*127\.0\.1\.1\tbox\t/);
  const before = await readFile(path, 'utf8');
  setHost('events', '10.0.0.1', 'events.local', path);
  forgetHost('events', path);
  assert.equal(await readFile(path, 'utf8'), before, 'a name that is forgotten leaves the others');
});

/** Self-signed, made for this test; nothing checks its dates. */
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBhDCCASugAwIBAgIUQXfzYWBsvuqWLXI1nBwAh4yFXZ4wCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMbmVzdGJveC10ZXN0MCAXDTI2MTEyMjEzNDIxMVoYDzIxMjYx
MDI5MTM0MjExWjAXMRUwEwYDVQQDDAxuZXN0Ym94LXRlc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQbcr2N62rfX5ipTNrYfZLAASK2oKjrJGXSoVdw9V7NzbB8
GrHsfWheylMeDBIQjrpijpTCNZWwYRpEYr9oN/vlo1MwUTAdBgNVHQ4EFgQUB+K3
6bFjY7/ih43lgvVa2umXr4UwHwYDVR0jBBgwFoAUB+K36bFjY7/ih43lgvVa2umX
r4UwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiAJDnGVN2v0VS1N
cMcvGzyt1aGquuevGlXLwFpJ0Ti7qwIgQrlAG6gBk+QXPnXetZr84o9aFmCDBJ38
wp870Ho+Os4=
-----END CERTIFICATE-----`;

test('certificates are added to every trust store that exists, once', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nestbox-trust-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const [first, second, local] = ['first.crt', 'second.crt', 'local/own.crt'].map((name) => join(dir, name));
  assert.ok(first && second && local);
  await writeFile(second, 'existing, without a line end');
  const store = new TrustStore([first, second], local);
  await store.add(`comment\n${CERTIFICATE}\n`);
  await store.add(CERTIFICATE);
  assert.equal(await readFile(second, 'utf8'), `existing, without a line end\n${CERTIFICATE}\n`);
  assert.equal(await readFile(local, 'utf8'), `${CERTIFICATE}\n`);
  await assert.rejects(readFile(first), /ENOENT/);

  const empty = new TrustStore([first], local);
  await empty.add(CERTIFICATE);
  assert.equal(await readFile(first, 'utf8'), `${CERTIFICATE}\n`);
});

test('while one bundle is installed, another is asked to wait', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nestbox-trust-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const store = new TrustStore([join(dir, 'store')], join(dir, 'local'));
  const first = store.add(CERTIFICATE);
  await assert.rejects(store.add(CERTIFICATE), (error) => error instanceof RestError && error.status === 503);
  await first;
  await store.add(CERTIFICATE);
});
