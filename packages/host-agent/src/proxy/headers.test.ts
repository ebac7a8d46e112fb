import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { endToEndHeaders, hasSeveralHosts, rewriteLocation, rewriteLocations } from './headers.ts';

const TARGET = {
  hosts: new Set(['10.11.0.5', '169.254.0.21', 'localhost', '127.0.0.1', '[::1]']),
  port: 8080,
  requestHost: '8080-i1.sandbox.example',
};

describe('end-to-end headers', () => {
  test('keep order, spelling and repetition, and lose what belongs to one connection', () => {
    const raw = [
      'X-B',
      '1',
      'Connection',
      'close, X-Own',
      'x-own',
      '2',
      'x-b',
      '3',
      'TE',
      'trailers',
      'Upgrade',
      'h2c',
    ];
    assert.deepEqual(endToEndHeaders(raw, 'close, X-Own'), ['X-B', '1', 'x-b', '3']);
  });

  test('cannot be stripped of what gives the message its meaning or length', () => {
    const raw = ['Host', 'a', 'Content-Length', '3', 'Authorization', 'x', 'Cookie', 'y'];
    assert.deepEqual(endToEndHeaders(raw, 'host, content-length, authorization, cookie'), raw);
  });

  test('never carry the token of the host to an application', () => {
    assert.deepEqual(endToEndHeaders(['X-Nestbox-Host-Token', 'secret', 'A', 'b'], undefined), ['A', 'b']);
  });
});

describe('a Location', () => {
  for (const [location, expected] of [
    ['http://10.11.0.5:8080/next?x=1#y', '/next?x=1#y'],
    ['http://localhost:8080', '/'],
    ['http://[::1]:8080/v6', '/v6'],
    ['HTTP://LOCALHOST:8080/up', '/up'],
    ['//169.254.0.21:8080/net', '/net'],
    ['http://localhost:8080?q', '/?q'],
    ['http://localhost:8080//evil.example/', '/evil.example/'],
    ['http://localhost:8080/a//b/', '/a//b/'],
  ] as const)
    test(`to the guest itself keeps path and query: ${location}`, () => {
      assert.equal(rewriteLocation(location, TARGET), expected);
    });

  for (const location of [
    '/next',
    '/a//b/',
    'next',
    '../up',
    '?q=1',
    'http://8080-i1.sandbox.example/next',
    'http://localhost:9090/other-port',
    'http://localhost/port-80',
    'https://example.com/',
    '//example.com/net',
    '\\\\example.com',
    '/\\example.com',
    'http://localhost:8080@evil.example/',
    'http://user@evil.example:8080/',
    'mailto:a@b.c',
    '',
  ])
    test(`elsewhere is left alone: ${JSON.stringify(location)}`, () => {
      assert.equal(rewriteLocation(location, TARGET), location);
    });

  test('is found in any spelling, every time it is there', () => {
    const own = 'http://localhost:8080/a';
    const headers = ['location', own, 'X', own, 'LOCATION', own];
    rewriteLocations(headers, TARGET);
    assert.deepEqual(headers, ['location', '/a', 'X', own, 'LOCATION', '/a']);
  });
});

test('several Host headers are noticed', () => {
  assert.equal(hasSeveralHosts(['Host', 'a', 'X', 'host', 'host', 'b']), true);
  assert.equal(hasSeveralHosts(['Host', 'a', 'X', 'host']), false);
});
