import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { COMMAND, commandEnvironment, outcomeOf, spawnNestbox } from '../support/nestbox-command.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';
import { typeInto } from '../support/typed-session.ts';

const UP = ['up', '--port', '0', '--sandbox-port', '0'];
const CTRL_C = '\x03';

test('the first key is shown once, to somebody before a terminal, and never goes where logs are kept', {
  skip: vmsCannotRun(),
}, async () => {
  await using paths = await makeStateFolder();
  const keyPath = join(paths.stateDir, 'api-key');
  const readKey = async () => (await readFile(keyPath, 'utf8')).trim();
  const env = { NESTBOX_DIR: paths.stateDir };
  const inTerminal = () => typeInto([COMMAND, ...UP], commandEnvironment(env), [[/E2B_API_KEY=\S+/, CTRL_C]]);

  const first = await inTerminal();
  assert.equal(first.exitCode, 0);
  const key = await readKey();
  assert.match(key, /^e2b_[0-9a-f]{40}$/);
  assert.equal((await stat(keyPath)).mode & 0o777, 0o600);
  assert.ok(first.shown.includes(`export E2B_API_KEY=${key}\r\n`) && first.shown.includes('this once'), first.shown);
  assert.doesNotMatch((await inTerminal()).shown, /e2b_[0-9a-f]/);

  // As under systemd or in a container, and with a key that is new again.
  await using other = await makeStateFolder();
  const child = spawnNestbox([...UP, '--log-level', 'trace'], { NESTBOX_DIR: other.stateDir }, { stdio: 'pipe' });
  const outcome = outcomeOf(child);
  assert.ok(child.stdout !== null);
  const [lines] = await once(child.stdout, 'data');
  const made = (await readFile(join(other.stateDir, 'api-key'), 'utf8')).trim();
  const shell = ['-c', `${/^export[\s\S]*/m.exec(String(lines))?.[0]}\nprintf %s "$E2B_API_KEY"`];
  assert.equal(execFileSync('sh', shell, { encoding: 'utf8' }), made);
  child.kill('SIGTERM');
  const { exitCode, stdout, stderr } = await outcome;
  assert.equal(exitCode, 0, stderr);
  assert.ok(!`${stdout}${stderr}`.includes(made.slice(0, 12)));
});
