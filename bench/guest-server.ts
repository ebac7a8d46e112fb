import type { NestboxPaths } from '@nestbox/kit';
import type { Sandbox } from 'e2b';
import { directGuest } from './direct-guest.ts';

const PORT = 8080;
const READY_WITHIN_MS = 60_000;

/** Small answers, large ones (`/<bytes>`), and WebSockets that say nothing. */
const PROGRAM = `
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
const piece = Buffer.alloc(256 * 1024, 'nestbox ');
const server = createServer((request, response) => {
  let left = Number(request.url.slice(1));
  if (!(left > 0)) { response.end('small'); return; }
  response.writeHead(200, { 'content-length': left });
  const fill = () => {
    while (left > 0) {
      const part = left < piece.length ? piece.subarray(0, left) : piece;
      left -= part.length;
      if (!response.write(part)) { response.once('drain', fill); return; }
    }
    response.end();
  };
  fill();
});
server.on('upgrade', (request, socket) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + accept + '\\r\\n\\r\\n');
  socket.on('error', () => {}).resume();
  socket.on('end', () => socket.end());
});
server.keepAliveTimeout = 600_000;
server.listen(${PORT}, '0.0.0.0');
`;

/** A server in the sandbox and the two ways to it. */
export interface GuestServer {
  /** Past edge and proxy, through the veth. */
  readonly directUrl: string;
  readonly port: number;
  /** What leads to it at the edge. */
  readonly routing: Readonly<Record<string, string>>;
}

export async function startGuestServer(sandbox: Sandbox, paths: NestboxPaths): Promise<GuestServer> {
  await sandbox.files.write('/tmp/server.mjs', PROGRAM);
  await sandbox.commands.run('node /tmp/server.mjs', { background: true, timeoutMs: 0 });
  const directUrl = new URL((await directGuest(paths, sandbox.sandboxId)).url);
  directUrl.port = String(PORT);
  const deadline = performance.now() + READY_WITHIN_MS;
  for (;;) {
    const answered = await fetch(directUrl).then(
      (answer) => answer.ok,
      () => false,
    );
    if (answered) break;
    if (performance.now() > deadline) throw new Error('the server in the sandbox does not answer');
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return {
    directUrl: directUrl.origin,
    port: PORT,
    routing: { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': String(PORT) },
  };
}
