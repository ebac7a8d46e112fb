import { createServer, type RequestListener } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * The least that a host agent needs of a guest agent, as a process of its own. Its first argument is the address; its second
 * what goes wrong: `deaf` never listens, `unwell` answers 503, `no-init` refuses its settings, `dies-on-init` ends, `mute`
 * listens and does not answer its settings, `no-prepare` does not get ready for a snapshot, `unread` does not read its memory.
 * `GET /mood?is=…` changes that. What it is asked it writes to its console, which outlives it.
 */
const [, , listen = '', firstMood = ''] = process.argv;
const [host, port] = listen.split(':');
let mood = firstMood;
let init: unknown;
/** Loaded with the first call: most tests need no commands and no files. */
let services: Promise<RequestListener> | undefined;

const server = createServer(async (request, response) => {
  const { method, url = '' } = request;
  const { pathname, searchParams } = new URL(url, 'http://agent');
  if (/^\/(process\.Process|filesystem\.Filesystem|files)\b/.test(pathname)) {
    services ??= import('./tiny-services.ts').then(({ tinyServices }) => tinyServices());
    (await services)(request, response);
    return;
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  const say = () => console.log(`agent: ${method} ${pathname}`);
  switch (`${method} ${pathname}`) {
    case 'GET /health':
      response.writeHead(mood === 'unwell' ? 503 : 204).end();
      return;
    case 'POST /init':
      say();
      if (mood === 'dies-on-init') process.exit(3);
      if (mood === 'mute') return;
      init = JSON.parse(body);
      response.writeHead(mood === 'no-init' ? 401 : 204, { 'X-Envd-Version': '0.6.99' });
      response.end(mood === 'no-init' ? 'access token validation failed' : undefined);
      return;
    case 'GET /last-init':
      response.end(JSON.stringify(init ?? null));
      return;
    case 'GET /mood':
      mood = searchParams.get('is') ?? '';
      response.end();
      return;
    case 'GET /slow':
      await delay(Number(searchParams.get('ms')));
      response.end('done');
      return;
    case 'POST /clock': {
      const now = `${BigInt(Date.now()) * 1_000_000n}`;
      response.end(JSON.stringify({ received_ns: now, sent_ns: now }));
      return;
    }
    case 'GET /logs': {
      const logLine = { time_ms: 1_700_000_000_000, level: 'info', message: 'the guest says this once', fields: {} };
      const told = searchParams.get('buffer') === 'tiny';
      response.end(JSON.stringify({ buffer: 'tiny', next: 1, lines: told ? [] : [logLine] }));
      return;
    }
    case 'GET /activity':
      response.end(
        JSON.stringify({ last_request_at_ms: 1_700_000_000_000, running_processes: 3, open_connections: 2 }),
      );
      return;
    case 'POST /snapshot/prepare':
      say();
      response.writeHead(mood === 'no-prepare' ? 500 : 204).end();
      return;
    case 'POST /snapshot/settle':
      response.writeHead(204).end();
      return;
    case 'POST /memory/preload':
      say();
      response.writeHead(202).end();
      return;
    case 'GET /memory/preload': {
      say();
      const state = mood === 'unread' ? 'failed' : 'done';
      response.end(JSON.stringify({ state, regions: 1, pages: 1, bytes: 4096, elapsed_sec: 0, source: 'none' }));
      return;
    }
    case 'GET /metrics':
      response.end(
        JSON.stringify({
          ts: 1_700_000_000,
          cpu_count: 2,
          cpu_used_pct: 12.5,
          mem_total: 512,
          mem_used: 100,
          mem_cache: 50,
          disk_used: 7,
          disk_total: 70,
        }),
      );
      return;
    default:
      response.writeHead(404).end();
  }
});
if (mood === 'deaf') {
  console.log('deaf: this is the last line of the console');
  setInterval(() => {}, 60_000);
} else server.listen(Number(port), host, () => console.log('agent: listens'));
