import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { after, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { Process, Signal } from '@nestbox/contract/process';
import { startNativeAgent } from '../../../../test/support/native-agent.ts';
import { envelope } from '../testing/test-agent.ts';

const MIB = 1024 * 1024;
const agent = await startNativeAgent();
after(() => agent.stop());
const client = createClient(Process, createConnectTransport({ baseUrl: agent.url, httpVersion: '1.1' }));

async function residentBytes(): Promise<number> {
  const status = await readFile(`/proc/${agent.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

async function writtenBytes(pid: number): Promise<number> {
  return Number(/^wchar: (\d+)$/m.exec(await readFile(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

/** Waits until a process makes no more progress. */
async function standstill(pid: number): Promise<number> {
  for (let last = -1; ; ) {
    const now = await writtenBytes(pid);
    if (now === last) return now;
    last = now;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

test('a reader that stops stops the process, costs no memory, and goes on where it was', async () => {
  const size = 64 * MIB;
  const call = request(`${agent.url}/process.Process/Start`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/connect+json' },
  });
  call.end(
    envelope({ process: { cmd: '/usr/bin/head', args: ['-c', String(size), '/dev/zero'] }, stdin: false, tag: 'slow' }),
  );
  const [response] = await once(call, 'response');
  const pid = (await client.list({})).processes.find(({ tag }) => tag === 'slow')?.pid ?? 0;
  const before = await residentBytes();
  const written = await standstill(pid);
  assert.ok(written < 16 * MIB, `${written} bytes were written although nobody reads`);
  assert.ok((await residentBytes()) - before < 48 * MIB);

  let received = 0;
  for await (const chunk of response) received += chunk.length;
  assert.ok(received > size, 'base64 is larger than the bytes');
  await assert.rejects(client.update({ process: { selector: { case: 'pid', value: pid } } }), /not found/);
});

test('a slow reader that disappears lets the process and the other readers go on', async () => {
  const stopped = request(`${agent.url}/process.Process/Start`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/connect+json' },
  });
  stopped.on('error', () => undefined);
  stopped.end(envelope({ process: { cmd: '/usr/bin/yes' }, stdin: false, tag: 'endless' }));
  await once(stopped, 'response');
  const selector = { selector: { case: 'tag', value: 'endless' } } as const;
  const pid = (await client.list({})).processes.find(({ tag }) => tag === 'endless')?.pid ?? 0;
  const written = await standstill(pid);
  stopped.destroy();
  while ((await writtenBytes(pid)) <= written + 8 * MIB) await new Promise((resolve) => setTimeout(resolve, 20));
  await client.sendSignal({ process: selector, signal: Signal.SIGKILL });
});
