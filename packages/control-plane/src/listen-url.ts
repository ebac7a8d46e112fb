import type { Server } from 'node:net';

/** `http://host:port` of a listening server; a wildcard address is shown as the loopback one, which clients can use. */
export function boundUrl(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new TypeError('The server does not listen on TCP.');
  const host = address.address === '::' ? '::1' : address.address === '0.0.0.0' ? '127.0.0.1' : address.address;
  return `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`;
}
