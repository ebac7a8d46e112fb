import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sandbox } from 'e2b';
import { startOutsideServer } from '../support/outside-server.ts';
import { startServer } from '../support/server.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

test('private addresses are closed but for those that the operator opens, each by an option of its own', {
  skip: vmsCannotRun(),
}, async () => {
  await using paths = await makeStateFolder();
  await using outside = await startOutsideServer('192.168.231');
  await using others = await startOutsideServer('172.29.231');
  const [first, second] = outside.addresses;
  const [third, fourth] = others.addresses;
  await using server = await startServer(paths, ['--allow-private', first, '--allow-private', `${third}/32`]);
  const sandbox = await Sandbox.create('base', server.connection);
  const probe = (address: string) =>
    `timeout 10 bash -c 'exec 3<>/dev/tcp/${address}/80 && read -r line <&3 && echo ${address}' 2>/dev/null;`;
  const reached = async () => {
    const { stdout } = await sandbox.commands.run(`${[first, second, third, fourth].map(probe).join(' ')} true`);
    return stdout.trim().split('\n');
  };
  assert.deepEqual(await reached(), [first, third]);
  await sandbox.updateNetwork({ denyOut: [first] });
  assert.deepEqual(await reached(), [third]);
  await sandbox.kill();
});
