import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { NestboxPaths } from '@nestbox/kit';
import { z } from 'zod';
import { findLeftovers } from '../support/leftovers.ts';
import { commandEnvironment, outcomeOf, runNestbox } from '../support/nestbox-command.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

const CLIENT = join(import.meta.dirname, '..', 'support', 'domain-client.ts');
const NAMES = pathToFileURL(join(import.meta.dirname, '..', 'support', 'lead-names-here.ts')).href;
const DOMAIN = 'box.example';

const environment = z.object({ environment: z.record(z.string(), z.string()) });

describe('the e2b client with a domain and TLS', { skip: vmsCannotRun() }, () => {
  let paths: (NestboxPaths & AsyncDisposable) | undefined;
  let server: TestServer | undefined;
  before(async () => {
    paths = await makeStateFolder();
    server = await startServer(paths, ['--domain', DOMAIN, '--tls', 'auto', '--tls-port', '0']);
  });
  after(async () => {
    if (paths === undefined) return;
    await using folder = paths;
    assert.equal(await server?.end('SIGTERM'), 0, server?.log());
    assert.deepEqual(await findLeftovers(folder), []);
  });

  /** What `nestbox env` tells a user to set. */
  async function clientEnvironment(): Promise<Record<string, string>> {
    const { stdout, stderr } = await runNestbox(['env', '--json'], { NESTBOX_DIR: paths?.stateDir });
    assert.ok(stdout.length > 0, stderr);
    return environment.parse(JSON.parse(stdout.toString())).environment;
  }

  test('needs E2B_DOMAIN, E2B_API_KEY and the authority alone, for everything that it does', async () => {
    const variables = await clientEnvironment();
    assert.deepEqual(Object.keys(variables), ['E2B_DOMAIN', 'E2B_API_KEY', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE']);
    assert.match(variables.E2B_DOMAIN as string, /^box\.example:[0-9]+$/);
    const child = spawn(process.execPath, ['--import', NAMES, CLIENT], {
      env: commandEnvironment(variables),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { exitCode, stdout, stderr } = await outcomeOf(child);
    assert.equal(exitCode, 0, stderr);
    const found: unknown = JSON.parse(stdout.toString());
    const { host, ...rest } = z.looseObject({ host: z.string() }).parse(found);
    assert.match(host, /^8080-i[a-z0-9]{20}\.box\.example:[0-9]+$/);
    assert.deepEqual(rest, {
      command: 'out\n',
      file: 'by the client',
      largeIsWhole: true,
      upload: 200,
      download: 'by a signed URL',
      forged: 401,
      pty: true,
      page: '<h1>from the sandbox</h1>',
      // http.server knows no WebSockets and answers the page instead.
      socket: 200,
      afterPause: 'by the client',
      listed: true,
      killed: true,
      running: false,
    });
  });

  test('is refused by clients that do not trust the authority', async () => {
    const { NODE_EXTRA_CA_CERTS: _, SSL_CERT_FILE: __, ...variables } = await clientEnvironment();
    const child = spawn(process.execPath, ['--import', NAMES, CLIENT], {
      env: commandEnvironment(variables),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { exitCode, stderr } = await outcomeOf(child);
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY|self-signed/);
  });

  test('nestbox itself goes on over loopback, and nestbox trust tells about the authority', async () => {
    const env = { NESTBOX_DIR: paths?.stateDir };
    const run = await runNestbox(['run', '--', 'echo', 'hello'], env);
    assert.deepEqual([run.exitCode, run.stdout.toString()], [0, 'hello\n'], run.stderr);
    const told = JSON.parse((await runNestbox(['trust', '--json'], env)).stdout.toString());
    assert.equal(told.domain, DOMAIN);
    const pem = (await runNestbox(['trust', '--pem'], env)).stdout.toString();
    assert.equal(pem.trim(), String(told.pem).trim());
    assert.match((await runNestbox(['trust'], env)).stdout.toString(), /NODE_EXTRA_CA_CERTS[\s\S]*SSL_CERT_FILE/);
    const lines = (await runNestbox(['env'], env)).stdout.toString();
    assert.match(lines, /^unset E2B_API_URL E2B_SANDBOX_URL\nexport E2B_DOMAIN=box\.example:/);
  });
});
