import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent as HttpAgent } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { Process, type StartResponse } from '@nestbox/contract/process';
import { createAgent } from '../agent.ts';
import type { AgentContext } from '../context.ts';
import { HostAddresses } from '../lifecycle/host-addresses.ts';

export type Encoding = 'json' | 'binary' | 'grpc-web';

/** Who connects from here is the host to a test agent; everything of 127.0.0.0/8 is local. */
export const TEST_HOST_ADDRESS = '127.0.0.2';

/** The whole agent in this process, on a free port; the machine stays as it is. */
export interface TestAgent extends AsyncDisposable {
  readonly url: string;
  readonly context: AgentContext;
  readonly runtimeDir: string;
  client(encoding?: Encoding): Client<typeof Process>;
}

export async function startTestAgent(): Promise<TestAgent> {
  await using cleanup = new AsyncDisposableStack();
  const runtimeDir = await mkdtemp(join(tmpdir(), 'nestbox-agent-'));
  cleanup.defer(() => rm(runtimeDir, { recursive: true, force: true }));
  const hostAddresses = new HostAddresses([{ address: TEST_HOST_ADDRESS, prefixLength: 32 }]);
  const agent = cleanup.use(createAgent({ runtimeDir, isInit: false, portForwarding: false, port: 0, hostAddresses }));
  agent.server.listen(0, '127.0.0.1');
  await once(agent.server, 'listening');
  cleanup.defer(async () => {
    agent.server.close();
    agent.server.closeAllConnections();
    await once(agent.server, 'close');
  });
  const connections = new HttpAgent({ keepAlive: true });
  cleanup.defer(() => connections.destroy());
  const url = `http://127.0.0.1:${(agent.server.address() as AddressInfo).port}`;
  const owned = cleanup.move();
  return {
    url,
    context: agent.context,
    runtimeDir,
    client: (encoding = 'json') => {
      const options = { baseUrl: url, httpVersion: '1.1', nodeOptions: { agent: connections } } as const;
      return createClient(
        Process,
        encoding === 'grpc-web'
          ? createGrpcWebTransport(options)
          : createConnectTransport({ ...options, useBinaryFormat: encoding === 'binary' }),
      );
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What a Start or Connect stream said, put together. */
export interface Observed {
  readonly pid: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly pty: Buffer;
  readonly keepAlives: number;
  readonly end: { exitCode: number; exited: boolean; status: string; error: string | undefined } | undefined;
  /** The kinds of the events, repeated ones once. */
  readonly order: readonly string[];
}

/** Reads a stream to its end. */
export async function observe(stream: AsyncIterable<Pick<StartResponse, 'event'>>): Promise<Observed> {
  const output = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[], pty: [] as Uint8Array[] };
  const order: string[] = [];
  let pid = 0;
  let keepAlives = 0;
  let end: Observed['end'];
  for await (const { event } of stream) {
    const kind = event?.event.case ?? 'nothing';
    if (order.at(-1) !== kind) order.push(kind);
    if (event?.event.case === 'start') pid = event.event.value.pid;
    if (event?.event.case === 'keepalive') keepAlives += 1;
    if (event?.event.case === 'end') {
      const { exitCode, exited, status, error } = event.event.value;
      end = { exitCode, exited, status, error };
    }
    if (event?.event.case === 'data') {
      const { output: part } = event.event.value;
      if (part.case !== undefined) output[part.case].push(part.value);
    }
  }
  const [stdout, stderr, pty] = [output.stdout, output.stderr, output.pty].map((chunks) => Buffer.concat(chunks));
  const none = Buffer.alloc(0);
  return { pid, stdout: stdout ?? none, stderr: stderr ?? none, pty: pty ?? none, keepAlives, end, order };
}

/** Frames one message for a streaming call (Connect protocol, enveloped messages). */
export function envelope(message: unknown, flags = 0): Buffer<ArrayBuffer> {
  const data = Buffer.from(typeof message === 'string' ? message : JSON.stringify(message));
  const frame = Buffer.alloc(5 + data.length);
  frame.writeUInt8(flags, 0);
  frame.writeUInt32BE(data.length, 1);
  data.copy(frame, 5);
  return frame;
}

/** Takes the frames of a streaming response apart. */
export function parseEnvelopes(body: Buffer): { readonly flags: number; readonly message: unknown }[] {
  const frames: { flags: number; message: unknown }[] = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1);
    frames.push({ flags: body.readUInt8(at), message: JSON.parse(body.toString('utf8', at + 5, at + 5 + length)) });
    at += 5 + length;
  }
  return frames;
}
