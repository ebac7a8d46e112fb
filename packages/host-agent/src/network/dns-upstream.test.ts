import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FALLBACK_RESOLVER, findDnsUpstream } from './dns-upstream.ts';

async function files(t: TestContext, ...contents: string[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-dns-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return Promise.all(
    contents.map(async (content, i) => {
      const path = join(folder, `resolv-${i}.conf`);
      await writeFile(path, content);
      return path;
    }),
  );
}

test('the host’s first name server is taken', async (t) => {
  const [file = ''] = await files(t, '# comment\nsearch example\nnameserver 192.0.2.7\nnameserver 192.0.2.8\n');
  assert.deepEqual(await findDnsUpstream([file]), { address: '192.0.2.7', source: file });
});

test('behind a local stub the real one is found', async (t) => {
  const [stub = '', real = ''] = await files(t, 'nameserver 127.0.0.53\noptions edns0\n', 'nameserver\t10.0.0.2');
  assert.deepEqual(await findDnsUpstream([stub, '/nonexistent', real]), { address: '10.0.0.2', source: real });
});

test('what cannot be used is passed over: IPv6, loopback, nonsense, comments', async (t) => {
  const [file = ''] = await files(
    t,
    'nameserver ::1\nnameserver fe80::1%eth0\n#nameserver 192.0.2.1\n nameserver 192.0.2.2\nnameserver 127.0.0.1\nnameserver 0.0.0.0\nnameserver dns\nnameserver 192.0.2.3 # office\n',
  );
  assert.equal((await findDnsUpstream([file])).address, '192.0.2.3');
});

test('without any a public resolver is asked', async () => {
  assert.deepEqual(await findDnsUpstream(['/nonexistent']), { address: FALLBACK_RESOLVER, source: 'fallback' });
});
