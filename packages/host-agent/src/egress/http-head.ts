import { parseDomainName } from '@nestbox/contract';
import type { Sniffed } from './sniffed.ts';

export const MAX_HEAD_BYTES = 64 * 1024;

/** Source: RFC 9110, 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const END = Buffer.from('\r\n\r\n');
const REPLACED: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'proxy-connection', 'upgrade']);

/** Whether what is there so far can be the begin of an HTTP/1 request. */
export function looksLikeHttp(data: Buffer): boolean {
  return /^[A-Z]{1,20}(?: |$)/.test(data.toString('latin1', 0, 21));
}

/**
 * Reads the host out of the head of an HTTP/1 request. Strict, so that no server reads another host out of the same bytes. The
 * head that goes on asks for one request only ("Connection: close"): what follows on the connection may name another host,
 * and servers leave it unread (RFC 9112, 9.6). WebSockets stay possible; no other upgrade does. Never throws.
 */
export function readHttpHead(data: Buffer): Sniffed {
  const end = data.subarray(0, MAX_HEAD_BYTES).indexOf(END);
  if (end < 0)
    return data.length >= MAX_HEAD_BYTES
      ? { kind: 'refused', why: 'its HTTP head is too long' }
      : { kind: 'incomplete' };
  const [requestLine = '', ...lines] = data.toString('latin1', 0, end).split('\r\n');
  const request = /^([A-Z]{1,20}) (\S+) HTTP\/1\.[01]$/.exec(requestLine);
  if (request === null) return broken;
  const [, method, target = ''] = request;
  if (method === 'CONNECT') return { kind: 'refused', why: 'it asks for a proxy (CONNECT)' };
  const hosts: string[] = [];
  const kept: string[] = [];
  let upgrade: string | undefined;
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).trim();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what no field may hold.
    if (colon < 0 || !TOKEN.test(name) || /[\x00-\x08\x0a-\x1f\x7f]/.test(value)) return broken;
    const lower = name.toLowerCase();
    if (lower === 'host') hosts.push(value);
    if (lower === 'upgrade') upgrade = value.toLowerCase();
    if (!REPLACED.has(lower)) kept.push(line);
  }
  const [host, ...others] = hosts;
  const name = host === undefined || others.length > 0 ? undefined : hostName(host);
  if (name === undefined) return { kind: 'refused', why: 'its HTTP request names no host, or more than one' };
  const authority = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(target)?.[1];
  if (authority === undefined ? !/^[/*]/.test(target) : hostName(authority) !== name) return broken;
  const last = upgrade === 'websocket' ? ['Connection: Upgrade, close', 'Upgrade: websocket'] : ['Connection: close'];
  const head = Buffer.from(`${[requestLine, ...kept, ...last].join('\r\n')}\r\n\r\n`, 'latin1');
  return { kind: 'named', protocol: 'http', name, head, headBytes: end + END.length };
}

const broken: Sniffed = { kind: 'refused', why: 'its HTTP head is broken' };

function hostName(authority: string): string | undefined {
  const match = /^([^:@[\]]+)(?::[0-9]{1,5})?$/.exec(authority);
  return match?.[1] === undefined ? undefined : parseDomainName(match[1]);
}
