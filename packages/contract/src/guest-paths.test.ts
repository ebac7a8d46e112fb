import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GUEST_INTERNAL_PATHS } from './guest.ts';
import { isInternalGuestPath } from './guest-paths.ts';

const internalPath = fc.constantFrom(...GUEST_INTERNAL_PATHS);

function encodeChar(char: string, times: number): string {
  let encoded = char;
  for (let i = 0; i < times; i++) {
    encoded = [...encoded].map((c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`).join('');
  }
  return encoded;
}

/** One way each to write a slash, a segment and a letter differently without changing where the path leads. */
const disguised = fc
  .tuple(
    internalPath,
    fc.array(fc.constantFrom('/', '//', '/./', '/x/../', '/%2e/', '/x/%2E%2e/', '%2f', '\\', '/.//'), {
      minLength: 3,
      maxLength: 3,
    }),
    fc.array(fc.nat({ max: 2 }), { minLength: 24, maxLength: 24 }),
    fc.constantFrom('', '/', '//', '?a=/files', '#x', '/.', ';v=1', '/x/..', '%09', '%00'),
  )
  .map(([path, slashes, encodings, suffix]) => {
    const segments = path.slice(1).split('/');
    const text = segments.map((segment, index) => {
      const letters = [...segment].map((char, at) => encodeChar(char, encodings[at] ?? 0)).join('');
      return `${slashes[index] ?? '/'}${letters}`;
    });
    return text.join('') + suffix;
  });

describe('isInternalGuestPath', () => {
  test('knows every internal path as it is written', () => {
    for (const path of GUEST_INTERNAL_PATHS) assert.equal(isInternalGuestPath(path), true, path);
  });

  test('knows internal paths behind dot segments, slashes, backslashes and percent-encoding', () => {
    fc.assert(
      fc.property(disguised, (path) => isInternalGuestPath(path)),
      { numRuns: 2000 },
    );
  });

  test('agrees with how the WHATWG URL parser and a cleaned posix path read any target', () => {
    const pieces = fc.constantFrom(
      ...[
        '/',
        '//',
        '.',
        '..',
        '%2e',
        '%2f',
        '\\',
        'init',
        'snapshot',
        'prepare',
        'files',
        'x',
        '?',
        '#',
        '%',
        ';',
        ' ',
      ],
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 8 }), (parts) => {
        const target = `/${parts.join('')}`;
        const read = [posix.normalize(target.split('?', 1)[0] ?? '')];
        if (URL.canParse(target, 'http://guest')) read.push(new URL(target, 'http://guest').pathname);
        if (read.some((path) => GUEST_INTERNAL_PATHS.has(path)))
          assert.equal(isInternalGuestPath(target), true, target);
      }),
      { numRuns: 20_000 },
    );
  });

  test('reads absolute and network forms of a target', () => {
    for (const target of [
      'http://guest/init',
      'http://guest:49983/./freeze',
      '//guest/init',
      '//init',
      '///init',
      '/INIT',
      '//x/../%63lock;a=b',
      '/#/../init',
      '/init#?a',
    ])
      assert.equal(isInternalGuestPath(target), true, target);
  });

  test('refuses what is encoded so often that no router would mean it', () => {
    assert.equal(isInternalGuestPath(`/${encodeChar('x', 8)}`), true);
  });

  test('counts what one parser drops and another one keeps as a segment', () => {
    for (const target of [
      '/init/;/..',
      '/init//..',
      '/init/%00/..',
      '/%69nit/%2e%2e/..',
      '/x/%252e%252e/init',
      '/./;/init;',
    ])
      assert.equal(isInternalGuestPath(target), true, target);
  });

  test('refuses what is longer than any public route, and what can be read in too many ways', () => {
    assert.equal(isInternalGuestPath(`/health/${'%25'.repeat(2000)}`), true);
    assert.equal(isInternalGuestPath(`/${'%2f;/'.repeat(150)}x`), true);
    assert.equal(
      isInternalGuestPath(`/files?path=${'%2e'.repeat(20_000)}`),
      false,
      'queries may be as long as they like',
    );
  });

  test('lets every public route of the guest agent through', () => {
    for (const target of [
      '/',
      '/health',
      '/metrics',
      '/envs',
      '/files',
      '/files?path=/init',
      '/files?path=%2Finit&username=user',
      '/files/compose',
      '/process.Process/Start',
      '/filesystem.Filesystem/ListDir',
      '/initial',
      '/health/',
      '//health',
      '/./files',
      '/%66iles?path=%2Finit',
      '/init/more',
      '/clocks',
      '/files/clock',
      '/x/init',
      '/memory',
      '/snapshot',
    ])
      assert.equal(isInternalGuestPath(target), false, target);
  });
});
