import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePort, parseSandboxHost } from './sandbox-address.ts';

test('a host name of the form <port>-<sandboxId>.<domain> names a port of a sandbox', () => {
  const wanted = { sandboxId: 'iabc', port: 8080 };
  assert.deepEqual(parseSandboxHost('8080-iabc.box.example'), wanted);
  assert.deepEqual(parseSandboxHost('8080-IABC.Box.Example:3001'), wanted);
  assert.deepEqual(parseSandboxHost('8080-iabc-client.box.example'), wanted);
});

test('any other host name does not', () => {
  for (const host of [
    '',
    'localhost',
    '127.0.0.1:3001',
    'api.box.example',
    '-iabc.x',
    '0-iabc.x',
    '65536-iabc.x',
    '1-.x',
    '8080-iabc',
    '80 80-iabc.x',
    '8080--iabc.x',
  ])
    assert.equal(parseSandboxHost(host), undefined, host);
});

test('a port is 1 to 65535 in plain digits', () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 65_535 }), (port) => parsePort(String(port)) === port));
  for (const bad of ['', '0', '65536', '-1', '1e3', '0x50', ' 80', '80 ', '８０', '999999'])
    assert.equal(parsePort(bad), undefined, bad);
});
