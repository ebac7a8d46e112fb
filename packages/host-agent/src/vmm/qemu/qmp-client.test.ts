import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { QmpClient, QmpCommandError, type QmpEvent, QmpUnavailableError } from './qmp-client.ts';

const GREETING = '{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":8}},"capabilities":[]}}\r\n';
const PATIENT = { deadlineMs: 20_000 };
const HASTY = { deadlineMs: 30 };

interface Request {
  readonly execute: string;
  readonly arguments?: unknown;
  readonly id: number;
}

interface Behaviour {
  /** Answers one request; commands that it leaves alone hang. `qmp_capabilities` is answered already. */
  readonly onRequest?: (request: Request, socket: Socket) => void;
  readonly onConnection?: (socket: Socket) => void;
}

/** A unix socket that behaves like QEMU's. */
async function serve(t: TestContext, { onRequest, onConnection }: Behaviour): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-qmp-'));
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    if (onConnection !== undefined) {
      onConnection(socket);
      return;
    }
    socket.write(GREETING);
    let pending = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (pending + text).split('\n');
      pending = lines.pop() ?? '';
      for (const line of lines) {
        const request: Request = JSON.parse(line);
        if (request.execute === 'qmp_capabilities') answer(socket, request, {});
        else onRequest?.(request, socket);
      }
    });
  });
  const path = join(folder, 'qmp.sock');
  await new Promise<void>((listening) => server.listen(path, listening));
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((closed) => server.close(closed));
    await rm(folder, { recursive: true });
  });
  return path;
}

function answer(socket: Socket, request: Request, value: unknown): void {
  socket.write(`${JSON.stringify({ return: value, id: request.id })}\r\n`);
}

test('it greets, negotiates, and asks commands with their arguments', async (t) => {
  const path = await serve(t, { onRequest: (request, socket) => answer(socket, request, request.arguments ?? 'none') });
  const client = await QmpClient.connect(path, PATIENT);
  t.after(() => client.close());
  assert.equal(client.version, '8.2.0');
  assert.deepEqual(await client.execute('stop', { force: true }, PATIENT), { force: true });
  assert.equal(await client.execute('stop', undefined, PATIENT), 'none');
});

test('answers find their commands in whatever order and pieces they come', async (t) => {
  const waiting: Request[] = [];
  const path = await serve(t, {
    onRequest: (request, socket) => {
      waiting.push(request);
      if (waiting.length < 3) return;
      const text = waiting
        .toReversed()
        .map(({ execute, id }) => `${JSON.stringify({ return: `${execute} – done`, id })}\r\n`)
        .join('');
      const bytes = Buffer.from(text);
      const sendFrom = (index: number) => {
        if (index < bytes.length) socket.write(bytes.subarray(index, index + 1), () => sendFrom(index + 1));
      };
      sendFrom(0);
    },
  });
  const client = await QmpClient.connect(path, PATIENT);
  t.after(() => client.close());
  const answers = await Promise.all(['a', 'b', 'c'].map((command) => client.execute(command, undefined, PATIENT)));
  assert.deepEqual(answers, ['a – done', 'b – done', 'c – done']);
});

test('a command that QEMU refuses fails with its words, and the connection goes on', async (t) => {
  const path = await serve(t, {
    onRequest: (request, socket) => {
      if (request.execute === 'good') answer(socket, request, 1);
      else socket.write(`{"error": {"class": "CommandNotFound", "desc": "never heard of it"}, "id": ${request.id}}\n`);
    },
  });
  const client = await QmpClient.connect(path, PATIENT);
  t.after(() => client.close());
  await assert.rejects(client.execute('bad', undefined, PATIENT), (error: unknown) => {
    assert.ok(error instanceof QmpCommandError);
    assert.equal(error.errorClass, 'CommandNotFound');
    assert.match(error.message, /bad: never heard of it/);
    return true;
  });
  assert.equal(await client.execute('good', undefined, PATIENT), 1);
});

test('events reach their listeners until these are taken back', async (t) => {
  const path = await serve(t, {
    onRequest: (request, socket) => {
      socket.write('{"event": "RESUME", "timestamp": {}}\r\n');
      answer(socket, request, {});
    },
  });
  const client = await QmpClient.connect(path, PATIENT);
  t.after(() => client.close());
  const events: QmpEvent[] = [];
  const undo = client.onEvent((event) => events.push(event));
  await client.execute('cont', undefined, PATIENT);
  undo();
  await client.execute('cont', undefined, PATIENT);
  assert.deepEqual(events, [{ kind: 'event', name: 'RESUME', data: {} }]);
});

test('a command without an answer ends with its deadline, and the late answer disturbs nobody', async (t) => {
  let first: Request | undefined;
  const path = await serve(t, {
    onRequest: (request, socket) => {
      if (first === undefined) {
        first = request;
        return;
      }
      answer(socket, first, 'late');
      answer(socket, request, 'in time');
    },
  });
  const client = await QmpClient.connect(path, PATIENT);
  t.after(() => client.close());
  await assert.rejects(client.execute('slow', undefined, HASTY), {
    name: 'QmpUnavailableError',
    message: /slow within 30 ms/,
  });
  assert.equal(await client.execute('quick', undefined, PATIENT), 'in time');
});

test('an abort ends the wait for an answer, before and while it waits', async (t) => {
  const path = await serve(t, {});
  const client = await QmpClient.connect(path, PATIENT);
  t.after(() => client.close());
  const abort = new AbortController();
  const waiting = client.execute('stop', undefined, PATIENT, abort.signal);
  abort.abort();
  await assert.rejects(waiting, QmpUnavailableError);
  await assert.rejects(client.execute('stop', undefined, PATIENT, AbortSignal.abort()), QmpUnavailableError);
  await assert.rejects(QmpClient.connect(path, PATIENT, AbortSignal.abort()), QmpUnavailableError);
});

test('when QEMU dies, every command that waits fails, later ones at once, and `closed` tells', async (t) => {
  const path = await serve(t, {
    onRequest: (request, socket) => {
      // In the middle of an answer.
      if (request.execute === 'last') socket.write('{"return": {"a":', () => socket.destroy());
    },
  });
  const client = await QmpClient.connect(path, PATIENT);
  const commands = ['first', 'last'].map((command) => client.execute(command, undefined, PATIENT));
  for (const command of commands) await assert.rejects(command, QmpUnavailableError);
  await client.closed;
  assert.equal(client.isOpen, false);
  await assert.rejects(client.execute('later', undefined, PATIENT), QmpUnavailableError);
});

test('a socket that accepts and never greets ends with the deadline', async (t) => {
  const path = await serve(t, { onConnection: () => undefined });
  await assert.rejects(QmpClient.connect(path, HASTY), {
    name: 'QmpUnavailableError',
    message: /something else holds/,
  });
});

test('a server that hangs up before it greets is an error', async (t) => {
  const path = await serve(t, { onConnection: (socket) => socket.end() });
  await assert.rejects(QmpClient.connect(path, PATIENT), { name: 'QmpUnavailableError', message: /closed/ });
});

test('a server that speaks something else is an error', async (t) => {
  const path = await serve(t, { onConnection: (socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n') });
  await assert.rejects(QmpClient.connect(path, PATIENT), { name: 'QmpUnavailableError', message: /damaged/ });
});

test('a socket that is not there, or that nobody listens on, is an error', async () => {
  await assert.rejects(QmpClient.connect('/nonexistent/qmp.sock', PATIENT), {
    name: 'QmpUnavailableError',
    message: /ENOENT/,
  });
});
