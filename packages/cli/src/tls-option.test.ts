import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDomain, parseTls } from './tls-option.ts';

test('--tls takes auto, off, or two files', () => {
  assert.deepEqual(parseTls('auto'), { kind: 'auto' });
  assert.deepEqual(parseTls('off'), { kind: 'off' });
  assert.deepEqual(parseTls('a.pem,/b/key.pem'), { kind: 'files', certPath: 'a.pem', keyPath: '/b/key.pem' });
  for (const word of ['', 'on', 'a.pem', 'a.pem,', ',b', 'a,b,c'])
    assert.throws(() => parseTls(word), /CERT,KEY/, word);
});

test('--domain takes a host name and nothing around it', () => {
  assert.equal(parseDomain('Box.Example.'), 'box.example');
  assert.equal(parseDomain('nestbox.localhost'), 'nestbox.localhost');
  for (const word of [
    '',
    'http://x',
    'x:3000',
    'x/y',
    '*.x',
    '-x.y',
    'x..y',
    'a b',
    '../x',
    '10.0.0.1',
    'x'.repeat(64),
  ])
    assert.throws(() => parseDomain(word), /no domain/, word);
  assert.throws(() => parseDomain(Array(60).fill('abcd').join('.')), /no domain/);
});
