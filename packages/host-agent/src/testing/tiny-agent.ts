import { createServer } from 'node:http';

/**
 * The least that a host agent needs of a guest agent, as a process of its own: health, init, metrics. Its first argument
 * is the address; its second what goes wrong: `deaf` never listens, `unwell` answers 503, `no-init` refuses its settings,
 * `dies-on-init` ends.
 */
const [, , listen = '', mood = ''] = process.argv;
const [host, port] = listen.split(':');
let init: unknown;

const server = createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  switch (`${request.method} ${request.url}`) {
    case 'GET /health':
      response.writeHead(mood === 'unwell' ? 503 : 204).end();
      return;
    case 'POST /init':
      if (mood === 'dies-on-init') process.exit(3);
      init = JSON.parse(body);
      response.writeHead(mood === 'no-init' ? 401 : 204, { 'X-Envd-Version': '0.6.99' });
      response.end(mood === 'no-init' ? 'access token validation failed' : undefined);
      return;
    case 'GET /last-init':
      response.end(JSON.stringify(init ?? null));
      return;
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
} else server.listen(Number(port), host);
