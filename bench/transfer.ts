import { request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { GUEST_AGENT_PORT, SANDBOX_ID_HEADER, SANDBOX_PORT_HEADER } from '@nestbox/contract';
import type { NestboxPaths } from '@nestbox/kit';
import type { Sandbox } from 'e2b';
import { directGuest } from './direct-guest.ts';
import { describeSeries, type Measure } from './measure.ts';
import { interleave, timed } from './series.ts';

/** In the guest's memory, so that its disk is not what is measured. */
const FILE = '/dev/shm/transfer';
const PIECE = Buffer.alloc(256 * 1024, 'nestbox ');

export async function measureTransfers(
  sandbox: Sandbox,
  sandboxUrl: string,
  paths: NestboxPaths,
  rounds: number,
  sizeMib: number,
): Promise<Measure[]> {
  const { url: directUrl, accessToken } = await directGuest(paths, sandbox.sandboxId);
  const headers = {
    [SANDBOX_ID_HEADER]: sandbox.sandboxId,
    [SANDBOX_PORT_HEADER]: String(GUEST_AGENT_PORT),
    ...(accessToken === undefined ? {} : { 'x-access-token': accessToken }),
  };
  const mibPerSecond = async (work: () => Promise<void>) => sizeMib / ((await timed(work)) / 1000);
  const upload = (url: string) => () => mibPerSecond(() => send(`${url}/files?path=${FILE}`, headers, sizeMib));
  const download = (url: string) => () => mibPerSecond(() => receive(`${url}/files?path=${FILE}`, headers, sizeMib));

  const measure = async (title: string, side: (url: string) => () => Promise<number>): Promise<Measure> => {
    // The first time is slow whoever asks: nothing of the way is compiled and cached yet.
    await side(sandboxUrl)();
    await side(directUrl)();
    const { ours, floor } = await interleave(rounds, side(sandboxUrl), side(directUrl));
    return {
      title: `${title} of ${sizeMib} MiB`,
      ours: describeSeries(ours, 'MiB/s'),
      floor: describeSeries(floor, 'MiB/s'),
      judged: ours.median / floor.median,
      limit: { kind: 'at least', value: 0.8, unit: '×' },
      method:
        'One HTTP request through edge and host proxy, against the same request to the guest agent at its own address. The file lies in the memory of the guest.',
    };
  };
  const results = [await measure('Upload', upload), await measure('Download', download)];
  await sandbox.files.remove(FILE);
  return results;
}

async function send(url: string, headers: Record<string, string>, sizeMib: number): Promise<void> {
  const length = sizeMib * 2 ** 20;
  const outgoing = request(url, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/octet-stream', 'content-length': length },
  });
  const answered = new Promise<number>((resolve, reject) => {
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      response.resume().once('end', () => resolve(response.statusCode ?? 0));
    });
  });
  const pieces = function* () {
    for (let sent = 0; sent < length; sent += PIECE.length) yield PIECE;
  };
  await pipeline(Readable.from(pieces()), outgoing);
  const status = await answered;
  if (status !== 200) throw new Error(`the upload was answered with ${status}`);
}

async function receive(url: string, headers: Record<string, string>, sizeMib: number): Promise<void> {
  const length = await new Promise<number>((resolve, reject) => {
    const outgoing = request(url, { headers }, (response) => {
      let bytes = 0;
      response.on('data', (piece: Buffer) => {
        bytes += piece.length;
      });
      response.once('end', () => resolve(bytes));
      response.once('error', reject);
    });
    outgoing.once('error', reject);
    outgoing.end();
  });
  if (length !== sizeMib * 2 ** 20) throw new Error(`${length} bytes came back`);
}
