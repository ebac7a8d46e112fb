import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isGuestInternal, parseRequestTarget } from './request-target.ts';

test('the prefix is cut off as text', () => {
  for (const [url, path] of [
    ['/proxy/i1/8080/', '/'],
    ['/proxy/i1/8080', '/'],
    ['/proxy/i1/8080?x=1', '/?x=1'],
    ['/proxy/i1/8080/a//b/?c#d', '/a//b/?c#d'],
    ['/proxy/i1/8080//', '//'],
    ['/proxy/i1/8080/%2e%2E/x', '/%2e%2E/x'],
  ] as const)
    assert.deepEqual(parseRequestTarget(url), { sandboxId: 'i1', port: 8080, path });
});

test('what names no sandbox and port is nothing', () => {
  for (const url of [
    '',
    '/',
    '/proxy/i1',
    '/proxy/i1/',
    '/proxy/i1/0/',
    '/proxy/i1/65536/',
    '/proxy/i1/80x/',
    '/proxy/I1/80/',
    '/proxy/../80/',
    '/proxy//80/',
    '//proxy/i1/80/',
    'http://host/proxy/i1/80/',
    '/proxy/i1/-1/',
    `/proxy/${'a'.repeat(33)}/80/`,
  ])
    assert.equal(parseRequestTarget(url), undefined, url);
});

test('internal routes are refused on the port of the guest agent only', () => {
  const isInternal = (url: string) => {
    const target = parseRequestTarget(url);
    assert.ok(target);
    return isGuestInternal(target);
  };
  assert.equal(isInternal('/proxy/i1/49983/init'), true);
  assert.equal(isInternal('/proxy/i1/49983//x/../%2569nit?y'), true);
  assert.equal(isInternal('/proxy/i1/49983/health'), false);
  assert.equal(isInternal('/proxy/i1/8080/init'), false);
});
