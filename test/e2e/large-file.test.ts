import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { SANDBOX_ID_HEADER, SANDBOX_PORT_HEADER } from '@nestbox/contract';
import { sandboxBody } from '@nestbox/contract/http';
import { Sandbox } from 'e2b';
import { startServer, type TestServer } from '../support/server.ts';
import { addTemplate, makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

const PIECE = randomBytes(1024 * 1024);
const PIECES = 1024;

/** 1 GiB in which no two pieces are alike, so that one that is lost, doubled or moved shows. */
async function* content(): AsyncGenerator<Buffer> {
  for (let index = 0; index < PIECES; index++) {
    const piece = Buffer.from(PIECE);
    piece.writeUInt32BE(index);
    yield piece;
  }
}

async function hashOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}

async function accessToken({ apiUrl, apiKey }: TestServer, sandboxId: string): Promise<string> {
  const answer = await fetch(`${apiUrl}/sandboxes/${sandboxId}/connect`, {
    method: 'POST',
    headers: { 'X-API-Key': apiKey, 'Content-Type': 'application/json' },
    body: JSON.stringify({ timeout: 600 }),
  });
  return sandboxBody.parse(await answer.json()).envdAccessToken ?? '';
}

test('a file of 1 GiB passes through a guest of 512 MiB in both directions, unchanged', {
  skip: vmsCannotRun(),
}, async () => {
  await using paths = await makeStateFolder();
  const template = await addTemplate(paths, 'small', { vcpuCount: 2, memoryMib: 512 });
  await using server = await startServer(paths);
  const sandbox = await Sandbox.create(template, { ...server.connection, timeoutMs: 15 * 60_000 });
  const url = `${server.sandboxUrl}/files?username=user&path=large.bin`;
  const headers = {
    [SANDBOX_ID_HEADER]: sandbox.sandboxId,
    [SANDBOX_PORT_HEADER]: '49983',
    'X-Access-Token': await accessToken(server, sandbox.sandboxId),
  };

  const upload = await fetch(url, {
    method: 'POST',
    headers: { ...headers, 'Content-Type': 'application/octet-stream' },
    body: ReadableStream.from(content()),
    duplex: 'half',
  });
  assert.equal(upload.status, 200, await upload.text());
  assert.equal((await sandbox.files.getInfo('large.bin')).size, PIECES * PIECE.length);

  const download = await fetch(url, { headers: { ...headers, 'Accept-Encoding': 'identity' } });
  assert.equal(download.status, 200);
  assert.ok(download.body);
  assert.equal(await hashOf(download.body), await hashOf(content()));
  assert.equal((await sandbox.commands.run('echo still here')).stdout, 'still here\n');
});
