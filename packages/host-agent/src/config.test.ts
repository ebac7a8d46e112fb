import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { readDaemonConfig } from './config.ts';

const ENV = { NESTBOX_DIR: '/somewhere/state' };
const TOKEN = '0123456789abcdef';

describe('the configuration of the daemon', () => {
  test('without words is a private unix socket in the run folder', () => {
    const config = readDaemonConfig([], ENV);
    assert.deepEqual(config.listen, { socketPath: `${config.paths.runDir}/host-agent.sock` });
    assert.equal(config.paths.stateDir, '/somewhere/state');
    assert.equal(config.token, undefined);
  });

  test('takes addresses of both families and the token from the environment or a file', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-config-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    await writeFile(join(folder, 'token'), `${TOKEN}\n`);
    const fromFile = readDaemonConfig(['--listen', '[::1]:7000', '--token-file', join(folder, 'token')], ENV);
    assert.deepEqual(fromFile.listen, { host: '::1', port: 7000 });
    assert.equal(fromFile.token, TOKEN);
    const fromEnv = readDaemonConfig(['--listen', '0.0.0.0:0'], { ...ENV, NESTBOX_HOST_TOKEN: TOKEN });
    assert.deepEqual(fromEnv.listen, { host: '0.0.0.0', port: 0 });
  });

  test('takes what to keep ready and how much to keep at most', () => {
    const words = ['--warm', 'base=2', '--warm', 'other=0', '--max-snapshots', '7', '--max-snapshot-gib', '0.5'];
    const config = readDaemonConfig([...words, '--no-snapshots', '--scrub-hours', '0'], ENV);
    assert.deepEqual(config.warm, [
      { templateId: 'base', count: 2 },
      { templateId: 'other', count: 0 },
    ]);
    assert.deepEqual(config.limits, { maxSnapshots: 7, maxSnapshotBytes: 2 ** 29 });
    assert.equal(config.useSnapshots, false);
    assert.equal(config.scrubIntervalMs, 0);
    assert.equal(readDaemonConfig([], ENV).scrubIntervalMs, 86_400_000);
  });

  for (const args of [
    ['--warm', 'base'],
    ['--warm', 'base=101'],
    ['--warm', '=1'],
    ['--warm', 'base=1', '--warm', 'base=2'],
    ['--max-snapshots', '-1'],
    ['--max-snapshot-gib', 'much'],
    ['--scrub-hours', '-1'],
    ['--scrub-hours', 'often'],
    ['--listen', '0.0.0.0:7000'],
    ['--listen', 'localhost'],
    ['--listen', 'localhost:99999'],
    ['--listen', '127.0.0.1:1', '--token-file', '/nonexistent'],
    ['--accelerator', 'magic'],
    ['--log-level', 'loud'],
    ['--unknown'],
    ['stray'],
  ])
    test(`refuses ${args.join(' ')} with the usage`, () => {
      assert.throws(
        () => readDaemonConfig(args, ENV),
        (error: unknown) =>
          error instanceof NestboxError && error.code === 'invalid_request' && error.message.includes('Usage:'),
      );
    });
});
