import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir, readlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { EventType, Filesystem } from '@nestbox/contract/filesystem';
import { Process } from '@nestbox/contract/process';
import { createLogger } from '@nestbox/kit';
import { createGuestClient, type GuestClient } from './guest-client.ts';
import { startNativeAgent } from './testing/native-agent.ts';

const logger = createLogger({ level: 'silent' });

async function openFiles(pid: number): Promise<string[]> {
  const names = await readdir(`/proc/${pid}/fd`);
  const targets = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
  return targets.filter((target) => /inotify|ptmx|pipe/.test(target)).sort((a, b) => a.localeCompare(b));
}

const warmUpFolders = async () => (await readdir('/tmp')).filter((name) => name.startsWith('.nestbox-warm-up'));

async function until(what: string, state: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await state())) assert.ok(performance.now() < deadline, what);
}

test('the real guest agent is warmed up, and nothing is left of it', async (t) => {
  const { guest, pid } = await startNativeAgent(t);
  await guest.init({ sandboxId: 'i1', envVars: { KEPT: 'yes' } });
  const files = await openFiles(pid);
  await guest.warmUp({ rounds: 2, logger });
  assert.deepEqual(await warmUpFolders(), []);
  await until('watchers and terminals are closed', async () => `${await openFiles(pid)}` === `${files}`);
  const { running_processes, open_connections } = await guest.activity();
  assert.deepEqual([running_processes, open_connections], [0, 0]);
  const env = await guest.exec({ cmd: '/bin/sh', args: ['-c', 'echo $KEPT $E2B_SANDBOX_ID'] });
  assert.equal(env.stdout.toString(), 'yes i1\n', 'the settings of before are kept');
});

test('a warm-up that is given up clears away all the same', async (t) => {
  const { guest } = await startNativeAgent(t);
  await guest.init({});
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 300);
  await assert.rejects(guest.warmUp({ rounds: 10_000, logger }, abort.signal));
  assert.deepEqual(await warmUpFolders(), []);
  await until('processes have ended', async () => (await guest.activity()).running_processes === 0);
});

/** A guest without the programs or the user, which notes what it is asked. */
async function startPoorGuest(t: TestContext, options: { readonly shells: readonly string[]; terminal?(): unknown }) {
  const { shells, terminal } = options;
  const asked: string[] = [];
  const routes = (router: ConnectRouter) => {
    const userOf = (header: Headers) =>
      Buffer.from(header.get('authorization')?.slice('Basic '.length) ?? '', 'base64').toString();
    router.service(Process, {
      async *start({ process, pty }) {
        const cmd = process?.cmd ?? '';
        asked.push(`${pty === undefined ? 'start' : 'terminal'} ${cmd} ${process?.args.join(' ')}`);
        if (pty !== undefined) await terminal?.();
        const exitCode = shells.includes(cmd) ? 0 : 127;
        yield { event: { event: { case: 'start', value: { pid: 7 } } } };
        yield { event: { event: { case: 'end', value: { exitCode, exited: true } } } };
      },
      sendInput: () => ({}),
      sendSignal: ({ process }) => {
        asked.push(`kill ${process?.selector.value}`);
        return {};
      },
    });
    router.service(Filesystem, {
      listDir: (_request, { requestHeader }) => {
        const user = userOf(requestHeader);
        if (user !== 'root:') throw new ConnectError(`invalid username: '${user}'`, Code.Unauthenticated);
        return { entries: [] };
      },
      makeDir: () => ({}),
      remove: () => ({}),
      async *watchDir() {
        yield { event: { case: 'start' as const, value: {} } };
        const event = { name: 'watched.txt', type: EventType.CREATE };
        yield { event: { case: 'filesystem' as const, value: event } };
      },
    });
  };
  const rest = (request: IncomingMessage, response: ServerResponse) => {
    const path = request.url?.split('?', 1)[0] ?? '';
    if (path === '/files')
      asked.push(`${request.method} /files as ${new URL(`http://g${request.url}`).searchParams.get('username')}`);
    request.resume();
    request.once('end', () => {
      if (path === '/init' || path === '/health') response.writeHead(204).end();
      else if (path === '/files') response.end('again\n');
      else {
        const metrics = { ts: 1, cpu_count: 1, cpu_used_pct: 0, mem_total: 1, mem_used: 1, mem_cache: 1 };
        const activity = { last_request_at_ms: 1, running_processes: 0, open_connections: 0 };
        const logs = { buffer: 'one', next: 0, lines: [] };
        response.end(JSON.stringify({ ...metrics, disk_used: 1, disk_total: 1, ...activity, ...logs }));
      }
    });
  };
  const rpc = connectNodeAdapter({ routes });
  const server = createServer((request, response) =>
    (/^\/(process|filesystem)\./.test(request.url ?? '') ? rpc : rest)(request, response),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const guest: GuestClient = createGuestClient({ address: '127.0.0.1', port: address.port, accessToken: undefined });
  t.after(() => {
    guest.close();
    server.closeAllConnections();
    server.close();
  });
  return { guest, asked };
}

test('a template without bash and without the user is warmed up by what it has', async (t) => {
  const { guest, asked } = await startPoorGuest(t, { shells: ['/bin/sh'] });
  await guest.warmUp({ rounds: 1, logger });
  assert.deepEqual(
    asked.filter((line) => !line.includes('/files')),
    [
      'start /bin/bash -l -c echo warm',
      'start /bin/sh -c echo warm',
      'start /bin/sh -c echo warm',
      'terminal /bin/sh -i',
      'kill 7',
    ],
  );
  const files = new Set(asked.filter((line) => line.includes('/files')));
  assert.deepEqual(files, new Set(['GET /files as root', 'POST /files as root']));
});

test('a template without any shell is warmed up by files alone', async (t) => {
  const { guest, asked } = await startPoorGuest(t, { shells: [] });
  await guest.warmUp({ rounds: 3, logger });
  assert.equal(asked.filter((line) => line.startsWith('start')).length, 2);
  assert.equal(asked.filter((line) => line.startsWith('terminal')).length, 0);
  assert.equal(asked.filter((line) => line.startsWith('GET /files')).length, 6, 'as it is and packed, each round');
});

test('a terminal that is just being started when a warm-up is given up is killed', async (t) => {
  const abort = new AbortController();
  const { guest, asked } = await startPoorGuest(t, {
    shells: ['/bin/bash'],
    terminal: async () => {
      abort.abort();
      await new Promise((resolve) => setTimeout(resolve, 100));
    },
  });
  await assert.rejects(guest.warmUp({ rounds: 3, logger }, abort.signal), { name: 'GuestError', kind: 'aborted' });
  assert.equal(asked.at(-1), 'kill 7', 'and nothing more is asked of the guest');
});
