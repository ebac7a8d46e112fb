import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { echo, edgeError, Stage } from '../testing/edge-stage.ts';

describe('HTTP through the edge', () => {
  test('keeps headers as they are, repeated ones too, and takes off what belongs to one connection', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open((incoming, response) => {
      seen.push(incoming);
      response.writeHead(207, 'Quite Fine', [
        ...['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-Case', 'Kept', 'X-Umlaut', '\xfc'],
        ...['Connection', 'keep-alive, X-Hop', 'X-Hop', 'secret', 'Date', 'yesterday', 'Content-Length', '2'],
      ]);
      // As bytes: node would write a string's headers in the string's encoding.
      response.end(Buffer.from('ok'));
    });
    const answer = await stage.raw(
      [
        'GET / HTTP/1.1',
        `Host: ${stage.hostName}`,
        'X-Case: Kept',
        'X-Twice: 1',
        'X-Twice: 2',
        'X-Hop: secret',
        'TE: trailers',
        'Keep-Alive: timeout=5',
        'Proxy-Authorization: Basic eA==',
        'Authorization: Basic dXNlcjo=',
        'Connection: close, X-Hop',
        '\r\n',
      ].join('\r\n'),
    );
    const sent = seen[0];
    assert.deepEqual(sent?.rawHeaders, [
      ...['Host', stage.hostName, 'X-Case', 'Kept', 'X-Twice', '1', 'X-Twice', '2'],
      ...['Authorization', 'Basic dXNlcjo='],
      ...['X-Forwarded-For', '127.0.0.1', 'X-Forwarded-Proto', 'http', 'X-Forwarded-Host', stage.hostName],
    ]);
    const [head, body] = answer.split('\r\n\r\n');
    assert.equal(body, 'ok');
    assert.deepEqual(head?.split('\r\n'), [
      'HTTP/1.1 207 Quite Fine',
      'Set-Cookie: a=1',
      'Set-Cookie: b=2',
      'X-Case: Kept',
      'X-Umlaut: \xfc',
      'Date: yesterday',
      'Content-Length: 2',
      'Connection: close',
    ]);
  });

  test('keeps thousands of small headers, both ways', async () => {
    const many = Array.from({ length: 2000 }, (_, i) => [`X-${i}`, 'a']).flat();
    const counts: number[] = [];
    await using stage = await Stage.open((incoming, response) => {
      counts.push(incoming.rawHeaders.filter((name) => name.startsWith('X-')).length);
      response.writeHead(200, [...many, 'Content-Length', '2']).end('ok');
    });

    stage.host.proxy.maxHeadersCount = 0;
    let lines = '';
    for (let i = 0; i < many.length; i += 2) lines += `${many[i]}: ${many[i + 1]}\r\n`;
    const answer = await stage.raw(`GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: close\r\n${lines}\r\n`);
    assert.ok(Number(counts[0]) >= 2000, `${counts[0]} arrived`);
    assert.match(answer, /^X-1999: a\r\nContent-Length: 2\r\n/m);
  });

  test('an answer that asks for another protocol says which', async () => {
    let protocol: Record<string, string> = { Upgrade: 'websocket', Connection: 'Upgrade' };
    await using stage = await Stage.open((_incoming, response) => {
      response.writeHead(426, { ...protocol, 'Content-Length': '4' }).end('come');
    });
    const head = `GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\n`;
    const again = `${head}\r\n${head}Connection: close\r\n\r\n`;
    const answers = [await stage.raw(again), await stage.raw(`${head}Connection: Upgrade\r\nUpgrade: other\r\n\r\n`)];
    for (const answer of answers) {
      assert.match(answer, /^HTTP\/1\.1 426 /);
      assert.match(answer, /^Upgrade: websocket\r$/m);
      assert.match(answer, /^Connection: .*Upgrade/m);
      assert.match(answer, /\r\n\r\ncome/);
    }
    assert.equal(answers[0]?.match(/HTTP\/1\.1 426/g)?.length, 2, 'the connection goes on');
    protocol = {};
    for (const offer of ['', 'Connection: Upgrade\r\nUpgrade: other\r\n']) {
      const answer = await stage.raw(`${head}${offer === '' ? 'Connection: close\r\n' : offer}\r\n`);
      assert.match(answer, /^HTTP\/1\.1 426 /);
      assert.doesNotMatch(answer, /^(?:Connection: .*)?Upgrade/m);
    }
  });

  test('passes every method, with and without a body, and says each time how the body ends', async () => {
    const seen: { method: string | undefined; te: string | undefined; length: string | undefined; body: string }[] = [];
    await using stage = await Stage.open(async (incoming, response) => {
      seen.push({
        method: incoming.method,
        te: incoming.headers['transfer-encoding'],
        length: incoming.headers['content-length'],
        body: await text(incoming),
      });
      response.end('done');
    });
    const start = (method: string) => `${method} / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: close\r\n`;
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
      for (const rest of [
        '\r\n',
        'Content-Length: 2\r\n\r\nhi',
        'Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n',
      ]) {
        const answer = await stage.raw(start(method) + rest);
        assert.match(answer, /^HTTP\/1\.1 200 /, `${method} ${JSON.stringify(rest)}`);
        const last = seen.at(-1);
        assert.equal(last?.method, method);
        assert.equal(last?.body, rest === '\r\n' ? '' : 'hi', `${method} ${JSON.stringify(rest)}`);
        if (rest.startsWith('Content')) assert.deepEqual([last?.length, last?.te], ['2', undefined]);
        if (rest.startsWith('Transfer')) assert.deepEqual([last?.length, last?.te], [undefined, 'chunked']);
      }
    }
  });

  test('answers without a body stay without one', async () => {
    await using stage = await Stage.open((incoming, response) => {
      if (incoming.method === 'HEAD') response.writeHead(200, { 'Content-Length': '12345' });
      else response.writeHead(incoming.url?.endsWith('/204') ? 204 : 304, { ETag: '"x"' });
      response.end();
    });
    const headAnswer = await stage.fetch('/', { method: 'HEAD' });
    assert.equal(headAnswer.headers.get('content-length'), '12345');
    for (const status of [204, 304]) assert.equal((await stage.fetch(`/${status}`)).status, status);
  });

  test('a preflight goes to the guest, which decides', async () => {
    await using stage = await Stage.open((_incoming, response) =>
      response.writeHead(204, { 'Access-Control-Allow-Origin': 'https://app.example' }).end(),
    );
    const answer = await stage.fetch('/', { method: 'OPTIONS', headers: { 'Access-Control-Request-Method': 'PUT' } });
    assert.equal(answer.status, 204);
    assert.equal(answer.headers.get('access-control-allow-origin'), 'https://app.example');
  });

  test('32 MiB go up and down unchanged', async () => {
    await using stage = await Stage.open(echo());
    const sent = Buffer.alloc(32 * 1024 * 1024, 'nestbox ');
    const answer = await stage.fetch('/', { method: 'POST', body: sent });
    assert.ok(sent.equals(Buffer.from(await answer.arrayBuffer())));
  });

  test('an event stream gets its head and each event through at once', async () => {
    const open: PassThrough[] = [];
    await using stage = await Stage.open((_incoming, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.flushHeaders();
      const events = new PassThrough();
      events.pipe(response);
      open.push(events);
    });
    const answer = await stage.fetch('/');
    assert.equal(answer.headers.get('content-type'), 'text/event-stream');
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (const event of ['one', 'two']) {
      open[0]?.write(event);
      assert.equal((await reader?.read())?.value, event);
    }
    open[0]?.end();
    assert.equal((await reader?.read())?.done, true);
  });

  test('connections to the proxy are used again', async () => {
    const ports = new Set<Socket>();
    await using stage = await Stage.open((incoming, response) => {
      ports.add(incoming.socket);
      response.end('x');
    });
    for (let i = 0; i < 5; i++) await (await stage.fetch('/')).text();
    assert.equal(ports.size, 1);
  });

  test('a kept connection that the proxy closes at the wrong moment costs no request', async () => {
    let served = 0;
    await using stage = await Stage.open((incoming, response) => {
      served += 1;
      // The second request on a connection dies with it, as if it had crossed the proxy's close.
      if (served === 2) incoming.socket.destroy();
      else response.end('fine');
    });
    assert.equal(await (await stage.fetch('/')).text(), 'fine');
    assert.equal(await (await stage.fetch('/')).text(), 'fine');
    assert.equal(served, 3);
  });

  test('a request that may have been acted upon is not sent twice', async () => {
    let served = 0;
    await using stage = await Stage.open((incoming, response) => {
      served += 1;
      if (served === 2) incoming.socket.destroy();
      else response.end('fine');
    });
    await (await stage.fetch('/')).text();
    assert.equal((await stage.fetch('/', { method: 'DELETE' })).status, 503);
    assert.equal(served, 2);
  });

  test('a client that goes away ends the request in the guest, whether it waits, reads or sends', async () => {
    const closed: string[] = [];
    const arrived = new EventTarget();
    await using stage = await Stage.open((incoming, response) => {
      const name = incoming.headers['x-name'];
      response.once('close', () => {
        closed.push(String(name));
        arrived.dispatchEvent(new Event('closed'));
      });
      if (name === 'reads') response.write('some');
      incoming.on('error', () => {});
      incoming.resume();
      arrived.dispatchEvent(new Event('open'));
    });
    for (const [name, rest] of [
      ['waits', 'Content-Length: 0\r\n\r\n'],
      ['reads', 'Content-Length: 0\r\n\r\n'],
      ['sends', 'Content-Length: 1000\r\n\r\nx'],
      ['sends chunks', 'Transfer-Encoding: chunked\r\n\r\n5\r\nab'],
    ] as const) {
      for (const leave of ['end', 'reset'] as const) {
        const socket = await stage.socket();
        socket.resume().on('error', () => {});
        const open = once(arrived, 'open');
        socket.write(`POST / HTTP/1.1\r\nHost: ${stage.hostName}\r\nX-Name: ${name}\r\n${rest}`);
        await open;
        const gone = once(arrived, 'closed');
        if (leave === 'end') socket.end();
        else socket.resetAndDestroy();
        await gone;
        socket.destroy();
        assert.equal(closed.at(-1), name);
      }
    }
    assert.equal((await fetch(`${stage.server.apiUrl}/health`)).status, 204);
  });

  test('a guest that dies in the middle of its answer breaks the answer and does not end it', async () => {
    await using stage = await Stage.open((incoming, response) => {
      response.writeHead(200, incoming.url?.endsWith('/length') ? { 'Content-Length': '100' } : {});
      response.write('half', () => incoming.socket.destroy());
    });
    for (const path of ['/length', '/chunked'])
      await assert.rejects(async () => (await stage.fetch(path)).text(), path);
  });

  test('a guest that answers before it has read the body gets its answer through', async () => {
    await using stage = await Stage.open((incoming, response) => {
      response.writeHead(413, { Connection: 'close' }).end('too much', () => incoming.destroy());
    });
    const socket = await stage.socket();
    socket.on('error', () => {});
    socket.write(`POST / HTTP/1.1\r\nHost: ${stage.hostName}\r\nContent-Length: 1000000000\r\n\r\nbegin`);
    const [first] = await once(socket, 'data');
    assert.match(String(first), /^HTTP\/1\.1 413 /);
    socket.destroy();
  });

  test('a slow reader holds the guest back', async () => {
    const chunk = Buffer.alloc(1024 * 1024);
    const held = Promise.withResolvers<number>();
    await using stage = await Stage.open(async (_incoming, response) => {
      for (let sent = 1; ; sent++) {
        if (sent > 256) held.resolve(sent);
        if (response.destroyed) return;
        if (!response.write(chunk)) {
          const drained = once(response, 'drain').then(() => true);
          // Buffers of kernel and edge take a few MiB; then nothing moves until the reader does.
          const stuck = new Promise<false>((resolve) => setTimeout(resolve, 500, false));
          if (!(await Promise.race([drained.catch(() => true), stuck]))) return held.resolve(sent);
        }
      }
    });
    const socket = await stage.socket();
    socket.pause();
    socket.on('error', () => {});
    socket.write(`GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\n\r\n`);
    assert.ok((await held.promise) < 64, 'the guest was stopped after a few MiB');
    socket.destroy();
  });

  test('what is not clear HTTP is refused: two lengths, two codings, oversized heads', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const start = `POST / HTTP/1.1\r\nHost: ${stage.hostName}\r\n`;
    for (const [bytes, status] of [
      [`${start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
      [`${start}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd`, 400],
      [`${start}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`, 400],
      [`${start}Content-Length: 4x\r\n\r\nabcd`, 400],
      [`${start}X: a\0b\r\n\r\n`, 400],
      [`${start}Bad Name: x\r\n\r\n`, 400],
      [`${start}Transfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n`, 501],
      ['nonsense\r\n\r\n', 400],
      [`${start}X: ${'x'.repeat(70_000)}\r\n\r\n`, 431],
      ['GET / HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
      ['GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n', 400],
      [`${start}Expect: miracles\r\nConnection: close\r\n\r\n`, 417],
      [`CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: ${stage.hostName}\r\n\r\n`, 405],
    ] as const) {
      const answer = await stage.raw(bytes);
      assert.ok(
        answer.startsWith(`HTTP/1.1 ${status} `),
        `${JSON.stringify(bytes.slice(-60))}: ${answer.slice(0, 40)}`,
      );
      assert.equal(edgeError.parse(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).code, status);
    }
    assert.equal(seen.length, 0);
  });

  test('a guest that breaks HTTP gets its caller a 502, and the edge goes on', async () => {
    await using stage = await Stage.open((incoming) => {
      const kind = incoming.url?.split('/').at(-1);
      const answers: Record<string, string> = {
        garbage: 'this is not HTTP\r\n\r\n',
        switched: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n',
        low: 'HTTP/1.1 042 Low\r\nContent-Length: 0\r\n\r\n',
        packed: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n',
        both: 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        silent: '',
      };
      incoming.socket.end(answers[kind ?? ''] ?? '');
    });
    for (const kind of ['garbage', 'switched', 'low', 'packed', 'both', 'silent']) {
      const answer = await stage.fetch(`/${kind}`);
      assert.ok(answer.status === 502 || answer.status === 503, `${kind}: ${answer.status}`);
      await answer.text();
    }
  });
});
