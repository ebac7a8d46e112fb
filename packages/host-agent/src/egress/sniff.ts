import { looksLikeTls, readClientHello } from './client-hello.ts';
import { looksLikeHttp, readHttpHead } from './http-head.ts';
import type { Sniffed } from './sniffed.ts';

/** Reads the name that a connection is for out of its first bytes, whatever its port. Never throws. */
export function sniff(data: Buffer): Sniffed {
  if (data.length === 0) return { kind: 'incomplete' };
  if (looksLikeTls(data)) return readClientHello(data);
  if (looksLikeHttp(data)) return readHttpHead(data);
  return { kind: 'refused', why: 'it is neither TLS nor HTTP/1' };
}
