import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { createLogger, runCommand } from '@nestbox/kit';
import { type CertificatePair, certificateFiles, watchCertificate } from './certificate-source.ts';
import { authorityCertificates, authorityFiles, ensureAuthority } from './local-authority.ts';

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'nestbox-tls-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Undefined: the handshake was fine. */
async function handshake(pair: CertificatePair, ca: string, servername: string): Promise<string | undefined> {
  const server = createServer(pair);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const socket: TLSSocket = connect({ port: address.port, host: '127.0.0.1', servername, ca });
  server.on('tlsClientError', () => {});
  const outcome = await new Promise<string | undefined>((resolve) => {
    socket.once('secureConnect', () => resolve(undefined));
    socket.once('error', (error: Error & { code?: string }) => resolve(error.code ?? error.message));
  });
  socket.destroy();
  server.close();
  return outcome;
}

describe('the local authority', () => {
  test('issues what clients that trust it accept for the domain and names right below it, and for no others', async (t) => {
    const state = await folder(t);
    const pair = await authorityCertificates(state, 'box.example').load();
    const ca = await readFile(authorityFiles(state, 'box.example').caPath, 'utf8');
    for (const name of ['box.example', 'api.box.example', '8080-iabc.box.example'])
      assert.equal(await handshake(pair, ca, name), undefined, name);
    assert.equal(await handshake(pair, ca, 'other.example'), 'ERR_TLS_CERT_ALTNAME_INVALID');
    const other = await authorityCertificates(state, 'two.example').load();
    assert.equal(await handshake(other, ca, 'two.example'), 'SELF_SIGNED_CERT_IN_CHAIN');
    const parsed = new X509Certificate(pair.cert);
    const days = (parsed.validToDate.getTime() - Date.now()) / 86_400_000;
    assert.ok(days > 390 && days < 398);
  });

  test('cannot vouch for anything outside of its domain, should its key be stolen', async (t) => {
    const state = await folder(t);
    const { caPath, caKeyPath } = await ensureAuthority(state, 'box.example');
    const ca = await readFile(caPath, 'utf8');
    for (const [name, san] of [
      ['bank.example', 'DNS:bank.example'],
      ['api.box.example', 'DNS:api.box.example,IP:127.0.0.1'],
    ] as const) {
      const { stdout } = await runCommand('openssl', [
        ...['req', '-x509', '-CA', caPath, '-CAkey', caKeyPath, '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
        ...['-nodes', '-days', '9', '-subj', '/CN=x', '-keyout', '-', '-config', '/dev/null'],
        ...['-addext', `subjectAltName=${san}`],
      ]);
      assert.notEqual(await handshake({ cert: stdout, key: stdout }, ca, name), undefined, san);
    }
  });

  test('keeps its keys from others, is made once, and leaves nothing beside it', async (t) => {
    const state = await folder(t);
    const all = await Promise.all([1, 2, 3].map(() => ensureAuthority(state, 'box.example')));
    const files = all[0];
    assert.ok(files !== undefined);
    const before = await readFile(files.caPath, 'utf8');
    await authorityCertificates(state, 'box.example').load();
    assert.equal(await readFile(files.caPath, 'utf8'), before);
    for (const path of [files.caKeyPath, files.keyPath]) assert.equal((await stat(path)).mode & 0o777, 0o600, path);
    for (const path of [files.caPath, files.bundlePath, files.certPath])
      assert.equal((await stat(path)).mode & 0o777, 0o644, path);
    assert.deepEqual(await readdir(join(state, 'tls')), ['box.example']);
    const bundle = await readFile(files.bundlePath, 'utf8');
    assert.ok(bundle.startsWith(before.trim()) && bundle.split('BEGIN CERTIFICATE').length > 50);
  });

  test('issues again what is damaged, of another authority or about to end, and else keeps what it has', async (t) => {
    const state = await folder(t);
    const source = authorityCertificates(state, 'box.example');
    const files = authorityFiles(state, 'box.example');
    const first = await source.load();
    assert.deepEqual(await source.load(), first);
    await writeFile(files.certPath, 'half a fi');
    const second = await source.load();
    assert.notEqual(second.cert, first.cert);
    await runCommand('openssl', [
      ...['req', '-x509', '-CA', files.caPath, '-CAkey', files.caKeyPath, '-key', files.keyPath, '-days', '29'],
      ...[
        '-subj',
        '/CN=x',
        '-config',
        '/dev/null',
        '-addext',
        'subjectAltName=DNS:*.box.example',
        '-out',
        files.certPath,
      ],
    ]);
    const third = await source.load();
    assert.ok(new X509Certificate(third.cert).validToDate.getTime() - Date.now() > 300 * 86_400_000);
    await rm(files.folder, { recursive: true });
    const fourth = await source.load();
    assert.equal(
      await handshake(fourth, await readFile(files.caPath, 'utf8'), 'api.box.example'),
      undefined,
      'a new authority has new certificates',
    );
  });
});

describe('a certificate of the operator', () => {
  test('is refused with the reason when it cannot be read, is none, or is not that of the key', async (t) => {
    const state = await folder(t);
    await authorityCertificates(state, 'a.example').load();
    await authorityCertificates(state, 'b.example').load();
    const a = authorityFiles(state, 'a.example');
    const b = authorityFiles(state, 'b.example');
    assert.equal((await certificateFiles(a.certPath, a.keyPath).load()).cert, await readFile(a.certPath, 'utf8'));
    await assert.rejects(certificateFiles(join(state, 'no.pem'), a.keyPath).load(), /no\.pem cannot be read/);
    await assert.rejects(certificateFiles(a.keyPath, a.certPath).load(), /must be a certificate and its key/);
    await assert.rejects(certificateFiles(a.certPath, b.keyPath).load(), /is not that of/);
  });

  test('that changes is taken at once when it is whole, and never before', async (t) => {
    const state = await folder(t);
    await authorityCertificates(state, 'a.example').load();
    await authorityCertificates(state, 'b.example').load();
    const a = authorityFiles(state, 'a.example');
    const b = authorityFiles(state, 'b.example');
    const source = certificateFiles(a.certPath, a.keyPath);
    const changes: CertificatePair[] = [];
    const changed = Promise.withResolvers<void>();
    const end = new AbortController();
    const watching = watchCertificate(
      source,
      await source.load(),
      (pair) => {
        changes.push(pair);
        changed.resolve();
      },
      createLogger({ level: 'silent' }),
      end.signal,
      5,
    );
    // The certificate comes first, as renewal programs do it; its key is missing for some looks.
    await writeFile(a.certPath, await readFile(b.certPath, 'utf8'));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(changes.length, 0);
    await writeFile(a.keyPath, await readFile(b.keyPath, 'utf8'));
    await changed.promise;
    assert.equal(changes[0]?.cert, await readFile(b.certPath, 'utf8'));
    end.abort();
    await watching;
    assert.equal(changes.length, 1);
  });
});
