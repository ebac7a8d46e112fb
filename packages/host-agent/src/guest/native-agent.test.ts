import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { startNativeAgent } from './testing/native-agent.ts';

test('the client and the real guest agent understand each other', async (t) => {
  const { guest, folder } = await startNativeAgent(t);
  await guest.init({ sandboxId: 'i1', templateId: 't1', envVars: { GREETING: 'hello' }, defaultUser: 'root' });

  const run = await guest.exec({ cmd: '/bin/sh', args: ['-c', 'echo $GREETING; echo err >&2; exit 5'] });
  assert.deepEqual([run.stdout.toString(), run.stderr.toString(), run.exitCode], ['hello\n', 'err\n', 5]);

  const content = randomBytes(5_000_000);
  await guest.makeDir(join(folder, 'd'));
  assert.equal(await guest.makeDir(join(folder, 'd')), false);
  await guest.writeFile(join(folder, 'd', 'data.bin'), content);
  await guest.writeFile(join(folder, 'd', 'empty'), '');
  assert.ok(content.equals(await buffer(await guest.readFile(join(folder, 'd', 'data.bin')))));
  assert.equal((await buffer(await guest.readFile(join(folder, 'd', 'empty')))).length, 0);
  assert.deepEqual(
    (await guest.listDir(join(folder, 'd'))).map(({ name, sizeBytes, type }) => ({ name, sizeBytes, type })),
    [
      { name: 'data.bin', sizeBytes: content.length, type: 'file' },
      { name: 'empty', sizeBytes: 0, type: 'file' },
    ],
  );
  await guest.remove(join(folder, 'd'));
  await assert.rejects(guest.readFile(join(folder, 'd', 'empty')), /answered 404/);

  const terminal = await guest.startTerminal({ cmd: '/bin/sh', size: { cols: 77, rows: 11 } });
  await terminal.resize({ cols: 99, rows: 22 });
  await terminal.sendInput(Buffer.from('stty size; exit 4\n'));
  let shown = '';
  let exitCode: number | undefined;
  for await (const event of terminal.events) {
    if (event.kind === 'pty') shown += Buffer.from(event.data).toString();
    if (event.kind === 'end') exitCode = event.exitCode;
  }
  assert.match(shown, /22 99/);
  assert.equal(exitCode, 4);

  assert.ok((await guest.metrics()).memTotalBytes > 0);
  assert.ok((await guest.activity()).last_request_at_ms > 0);
  await guest.prepareSnapshot();
  assert.equal((await guest.memoryPreloadStatus()).state, 'idle');
});
