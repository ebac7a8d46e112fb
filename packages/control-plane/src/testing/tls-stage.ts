import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { connect, type TLSSocket } from 'node:tls';
import { authorityCertificates, authorityFiles } from '../tls/local-authority.ts';
import { Stage } from './edge-stage.ts';

export const TEST_DOMAIN = 'box.example';

/** A stage whose server also listens with TLS, for `TEST_DOMAIN`. Names are not looked up: tests connect to the address. */
export class TlsStage implements AsyncDisposable {
  readonly stage: Stage;
  readonly ca: string;
  readonly port: number;
  readonly #folder: string;

  private constructor(stage: Stage, ca: string, port: number, folder: string) {
    this.stage = stage;
    this.ca = ca;
    this.port = port;
    this.#folder = folder;
  }

  static async open(guest: RequestListener, fields: Record<string, unknown> = {}): Promise<TlsStage> {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-front-'));
    const certificate = authorityCertificates(folder, TEST_DOMAIN);
    await certificate.load();
    const ca = await readFile(authorityFiles(folder, TEST_DOMAIN).caPath, 'utf8');
    const stage = await Stage.open(guest, fields, undefined, {
      domain: TEST_DOMAIN,
      front: { address: { host: '127.0.0.1', port: 0 }, certificate },
    });
    return new TlsStage(stage, ca, Number(stage.server.domain?.split(':')[1]), folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stage[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }

  get sandboxHost(): string {
    return `8080-${this.stage.sandboxId}.${TEST_DOMAIN}`;
  }

  async socket(servername = `api.${TEST_DOMAIN}`, ALPNProtocols: string[] = ['http/1.1']): Promise<TLSSocket> {
    const socket = connect({ port: this.port, host: '127.0.0.1', servername, ca: this.ca, ALPNProtocols });
    await once(socket, 'secureConnect');
    return socket;
  }

  /** Sends bytes of HTTP/1.1 as they are and collects the answer until the server closes. */
  async raw(bytes: string): Promise<string> {
    const socket = await this.socket();
    socket.write(bytes, 'latin1');
    return (await buffer(socket)).toString('latin1');
  }

  async session(host = `api.${TEST_DOMAIN}`): Promise<ClientHttp2Session & AsyncDisposable> {
    const session = connectHttp2(`https://${host}`, {
      createConnection: () => this.#dial(host),
      // Test bodies are written as a whole.
      maxSessionMemory: 100,
    });
    await once(session, 'connect');
    return Object.assign(session, { [Symbol.asyncDispose]: async () => session.destroy() });
  }

  #dial(servername: string): TLSSocket {
    return connect({ port: this.port, host: '127.0.0.1', servername, ca: this.ca, ALPNProtocols: ['h2'] });
  }
}

export interface Http2Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: Buffer;
}

export async function ask(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: Buffer | string,
): Promise<Http2Answer> {
  const stream = session.request(headers, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  const answered = once(stream, 'response');
  const [head] = await answered;
  return { status: Number(head[':status']), headers: head, body: await buffer(stream) };
}
