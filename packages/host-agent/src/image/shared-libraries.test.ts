import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { test } from 'node:test';
import { addonLibraries, parseLdd, sharedLibraries } from './shared-libraries.ts';

test('the libraries and the loader are taken from what ldd prints', () => {
  const output = [
    '\tlinux-vdso.so.1 (0x00007f2877112000)',
    '\tlibstdc++.so.6 => /lib/x86_64-linux-gnu/libstdc++.so.6 (0x00007f2876e00000)',
    '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2876bf9000)',
    '\t/lib64/ld-linux-x86-64.so.2 (0x00007f2877114000)',
  ].join('\n');
  assert.deepEqual(parseLdd(output), [
    { name: 'libstdc++.so.6', path: '/lib/x86_64-linux-gnu/libstdc++.so.6' },
    { name: 'libc.so.6', path: '/lib/x86_64-linux-gnu/libc.so.6' },
    { name: 'ld-linux-x86-64.so.2', path: '/lib64/ld-linux-x86-64.so.2' },
  ]);
});

test('a missing library is not passed over', () => {
  assert.equal(parseLdd('\tlibmusl.so.1 => not found\n'), undefined);
});

test('our own Node needs a C library and a loader, and both are files', async () => {
  const libraries = await sharedLibraries(process.execPath);
  const names = libraries.map(({ name }) => name);
  assert.ok(names.includes('libc.so.6') && names.includes('ld-linux-x86-64.so.2'), names.join());
  for (const { path } of libraries) assert.ok((await stat(path)).isFile());
});

test('a program that is not there is an error; an add-on for another machine needs nothing', async () => {
  await assert.rejects(sharedLibraries('/no/such/program'), { code: 'not_set_up' });
  assert.deepEqual(await addonLibraries(new URL(import.meta.url).pathname), []);
});
