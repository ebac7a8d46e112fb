import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nodeBody } from '@nestbox/contract/http';
import { Sandbox } from 'e2b';
import { z } from 'zod';
import { runNestbox } from '../support/nestbox-command.ts';
import { startServer } from '../support/server.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

describe('nestbox node', { skip: vmsCannotRun() }, () => {
  test('a host tells of itself, is drained over a restart, and takes sandboxes again', async () => {
    await using paths = await makeStateFolder();
    const nestbox = async (...words: string[]) => {
      const { exitCode, stdout, stderr } = await runNestbox(words, { NESTBOX_DIR: paths.stateDir });
      assert.deepEqual([exitCode, stderr], [0, '']);
      return stdout.toString();
    };
    const listed = async () => {
      const [node, ...others] = z.array(nodeBody).parse(JSON.parse(await nestbox('node', 'list', '--json')));
      assert.ok(node !== undefined && others.length === 0);
      return node;
    };
    await using first = await startServer(paths);
    const sandbox = await Sandbox.create({ ...first.connection, timeoutMs: 600_000 });
    const { id, status, vmm, metrics, machineInfo, sandboxCount, createSuccesses } = await listed();
    assert.deepEqual([status, sandboxCount, createSuccesses], ['ready', 1, 1]);
    assert.match(vmm?.reason ?? '', new RegExp(`${vmm?.name} was chosen`));
    assert.ok(metrics.allocatedMemoryBytes > 0 && metrics.memoryUsedBytes > 0 && metrics.disks.length > 0);
    assert.equal(machineInfo.cpuArchitecture, 'x86_64');
    assert.match(await nestbox('node', 'info', id), /^vmmReason +\S.*was chosen/m);

    assert.equal(await nestbox('node', 'drain', id), `${id}\n`);
    await assert.rejects(Sandbox.create(first.connection), /is draining/);
    await first.end('SIGKILL');
    await using second = await startServer(paths);
    assert.equal((await listed()).status, 'draining');
    const again = await Sandbox.connect(sandbox.sandboxId, second.connection);
    assert.equal((await again.commands.run('echo goes on')).stdout, 'goes on\n');
    await assert.rejects(Sandbox.create(second.connection), /is draining/);
    await nestbox('node', 'ready', id);
    await Sandbox.create({ ...second.connection, timeoutMs: 60_000 });
    assert.equal((await listed()).sandboxCount, 2);
  });
});
