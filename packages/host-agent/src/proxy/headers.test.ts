import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { rewriteLocation, rewriteLocations } from './headers.ts';

const TARGET = {
  hosts: new Set(['10.11.0.5', '169.254.0.21', 'localhost', '127.0.0.1', '[::1]']),
  port: 8080,
  requestHost: '8080-i1.sandbox.example',
};

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
    // By the name that the client used, but without knowing that it came over TLS.
    ['http://8080-i1.sandbox.example/next', '/next'],
    ['//8080-I1.sandbox.example', '/'],
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
    'https://8080-i1.sandbox.example/next',
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

  test('to the host that it was told instead of the client’s stays inside, and only there', () => {
    const masked = { ...TARGET, maskedHost: 'app.internal:99' };
    assert.equal(rewriteLocation('http://app.internal:99/a?b', masked), '/a?b');
    assert.equal(rewriteLocation('https://APP.internal:99', masked), '/');
    assert.equal(rewriteLocation('http://app.internal/a', masked), 'http://app.internal/a');
    assert.equal(rewriteLocation('http://localhost:8080/a', masked), '/a');
  });

  test('of an application with TLS has that one’s default port', () => {
    const secure = { ...TARGET, port: 443, secure: true };
    assert.equal(rewriteLocation('https://localhost/a', secure), '/a');
    assert.equal(rewriteLocation('https://localhost/a', { ...secure, secure: false }), 'https://localhost/a');
  });

  test('is found in any spelling, every time it is there', () => {
    const own = 'http://localhost:8080/a';
    const headers = ['location', own, 'X', own, 'LOCATION', own];
    rewriteLocations(headers, TARGET);
    assert.deepEqual(headers, ['location', '/a', 'X', own, 'LOCATION', '/a']);
  });
});
