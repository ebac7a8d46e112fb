import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { z } from 'zod';
import { forEachAddressing } from '../support/each-addressing.ts';
import { commandEnvironment } from '../support/nestbox-command.ts';
import { PYTHON, pythonClientIsMissing } from '../support/python-client.ts';

const CHECKS = join(import.meta.dirname, 'python', 'client_checks.py');

const checked = z.object({ name: z.string(), error: z.string().nullable() });

// Its HTTP library resolves names by itself, and of those without DNS records it knows the ones below `localhost`.
const OPTIONS = { skip: pythonClientIsMissing(), domain: 'nestbox.localhost' };

forEachAddressing('the e2b client for Python', OPTIONS, (suite) => {
  test('does what it does anywhere', async (t) => {
    const child = spawn(PYTHON, [CHECKS], {
      env: commandEnvironment(suite.variables),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const exit = new Promise((resolve) => child.once('exit', resolve));
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    let count = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      const { name, error } = checked.parse(JSON.parse(line));
      await t.test(name, () => assert.equal(error, null, error ?? ''));
      count++;
    }
    assert.equal(await exit, 0, said);
    assert.equal(count, 12);
  });
});
