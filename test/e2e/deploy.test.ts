import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from '@nestbox/kit';

const ROOT = join(import.meta.dirname, '..', '..');
const VERIFIER = '/usr/bin/systemd-analyze';

test('systemd takes every unit, and each starts what is there', { skip: !existsSync(VERIFIER) }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-units-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const units = (await readdir(join(ROOT, 'deploy'))).filter((name) => name.endsWith('.service'));
  assert.ok(units.length >= 3);
  for (const name of units) {
    const text = (await readFile(join(ROOT, 'deploy', name), 'utf8')).replaceAll('/opt/nestbox', ROOT);
    for (const [path] of text.matchAll(/\/[^ \n]+\.(mjs|ts|md)\b/g)) assert.ok(existsSync(path), `${name}: ${path}`);
    await writeFile(join(folder, name), text);
  }
  const { stderr } = await runCommand(VERIFIER, ['verify', ...units.map((name) => join(folder, name))], {
    env: { ...process.env, SYSTEMD_LOG_LEVEL: 'warning' },
  });
  assert.equal(stderr, '');
});
