/**
 * Reads an endless answer at no more than a rate: a program of its own, as a user's download is one, so that its work is not
 * done by the process whose waiting is measured. Arguments: URL, megabytes (10^6) a second, headers as JSON. Each message from the
 * parent is answered with the bytes so far; it ends when the parent disconnects.
 */
import { request } from 'node:http';

const SLICE_MS = 10;

const [url = '', rate = '', headers = ''] = process.argv.slice(2);
const bytesPerMs = Number(rate) * 1000;
const begunMs = performance.now();
let bytes = 0;

request(url, { headers: JSON.parse(headers) }, (response) => {
  response.on('data', (piece: Buffer) => {
    bytes += piece.length;
    const aheadMs = bytes / bytesPerMs - (performance.now() - begunMs);
    if (aheadMs < SLICE_MS) return;
    response.pause();
    setTimeout(() => response.resume(), aheadMs);
  });
}).end();

process.on('message', () => process.send?.(bytes));
process.on('disconnect', () => process.exit(0));
