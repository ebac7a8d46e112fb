import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { build } from 'esbuild';
import { builtinModules } from './bundle-builtins.ts';

const SOURCE = `
  import http, { createServer } from 'node:http';
  import * as path from 'path';
  import { readFile } from 'node:fs/promises';
  const { hostname } = await import('node:os');
  console.log(JSON.stringify({
    works: [typeof http.request, typeof createServer, path.join('a', 'b'), typeof readFile, typeof hostname],
    loaded: process.moduleLoadList.filter((name) => name.includes('undici/undici')),
  }));`;

test('a bundle imports built-in modules in every way, and loads none that it does not use', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-bundle-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, 'main.ts'), SOURCE);
  const outfile = join(folder, 'main.mjs');
  await build({
    entryPoints: [join(folder, 'main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    plugins: [builtinModules],
    logLevel: 'silent',
  });
  const { works, loaded } = JSON.parse(execFileSync(process.execPath, [outfile], { encoding: 'utf8' }));
  assert.deepEqual(works, ['function', 'function', 'a/b', 'function', 'function']);
  assert.deepEqual(loaded, []);
});
