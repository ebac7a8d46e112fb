import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultSources, parseIndexTargets } from './debian-sources.ts';

test('the mirrors that this machine uses for the same suite are used', () => {
  const output = [
    'http://mirror.example/debian/ bookworm main',
    'http://mirror.example/debian/ bookworm contrib',
    'http://mirror.example/debian/ bookworm-updates main',
    'https://mirror.example/security/ bookworm-security main',
    'https://vendor.example/apt/ stable main',
    'http://mirror.example/debian/ trixie main',
    'http://mirror.example/debian/ bookworm main',
    'cdrom:[Debian] bookworm main',
    '',
  ].join('\n');
  assert.deepEqual(parseIndexTargets(output, 'bookworm'), [
    'deb http://mirror.example/debian bookworm main',
    'deb http://mirror.example/debian bookworm-updates main',
    'deb https://mirror.example/security bookworm-security main',
  ]);
});

test('a machine with another suite gives no mirror', () => {
  assert.deepEqual(parseIndexTargets('http://mirror.example/ubuntu/ noble main\n', 'bookworm'), []);
});

test("Debian's own mirrors have the suite, its updates and its security updates", () => {
  assert.deepEqual(
    defaultSources('bookworm').map((line) => line.split(' ').slice(2).join(' ')),
    ['bookworm main', 'bookworm-updates main', 'bookworm-security main'],
  );
});
