import { once } from 'node:events';
import type { IncomingMessage, RequestListener } from 'node:http';
import { connect, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import type { ControlPlaneConfig } from '../config.ts';
import { HostDouble } from './host-double.ts';
import { startTestServer, type TestServer } from './start-test-server.ts';

const GUEST_PORT = 8080;

/** A control plane with one running sandbox, whose every port is `guest`. */
export class Stage implements AsyncDisposable {
  readonly host: HostDouble;
  readonly server: TestServer;
  readonly sandboxId: string;
  readonly trafficToken: string;

  private constructor(host: HostDouble, server: TestServer, sandboxId: string, trafficToken: string) {
    this.host = host;
    this.server = server;
    this.sandboxId = sandboxId;
    this.trafficToken = trafficToken;
  }

  /** `fields` go into the create request. */
  static async open(
    guest: RequestListener,
    fields: Record<string, unknown> = {},
    clock?: Clock,
    config: Partial<ControlPlaneConfig> = {},
  ): Promise<Stage> {
    const host = await new HostDouble().open(guest);
    const server = await startTestServer([host], config, clock);
    const answer = await server.send('POST', '/v2/sandboxes', { templateID: 'base', ...fields });
    const body = z
      .object({ sandboxID: z.string(), trafficAccessToken: z.string().nullable() })
      .parse(await answer.json());
    return new Stage(host, server, body.sandboxID, body.trafficAccessToken ?? '');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    await this.host[Symbol.asyncDispose]();
  }

  get port(): number {
    return Number(new URL(this.server.edgeUrl).port);
  }

  get hostName(): string {
    return `${GUEST_PORT}-${this.sandboxId}.sandboxes.example`;
  }

  routing(port: number = GUEST_PORT): Record<string, string> {
    return { 'E2b-Sandbox-Id': this.sandboxId, 'E2b-Sandbox-Port': String(port) };
  }

  fetch(path: string, init: RequestInit = {}, port?: number): Promise<Response> {
    return fetch(this.server.edgeUrl + path, { ...init, headers: { ...this.routing(port), ...init.headers } });
  }

  /** A connection of its own, for what a well-behaved client would not send. */
  async socket(): Promise<Socket> {
    const socket = connect({ port: this.port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  }

  /** Sends bytes as they are and collects the answer until the server closes. */
  async raw(bytes: string): Promise<string> {
    const socket = await this.socket();
    socket.write(bytes, 'latin1');
    const answer = (await buffer(socket)).toString('latin1');
    socket.destroy();
    return answer;
  }
}

/** Body of every error that the edge answers itself. */
export const edgeError = z.object({
  code: z.int(),
  message: z.string(),
  error_code: z.string(),
  sandboxId: z.string().optional(),
});

/** A guest that answers with what it is sent. */
export function echo(seen: IncomingMessage[] = []): RequestListener {
  return (incoming, response) => {
    seen.push(incoming);
    response.setHeader('Content-Type', 'text/plain');
    incoming.pipe(response);
  };
}
