import { formatIpv4, parseDomainName } from '@nestbox/contract';
import packet, { type Answer, type DecodedPacket, type Packet } from 'dns-packet';
import type { Addresses, NameLookup } from './name-lookup.ts';

/** What decides about names, and opens what they are answered with. */
export interface DnsGate {
  isAllowed(name: string): boolean;
  /** Resolves when connections to these addresses can be made. */
  open(name: string, addresses: Addresses): Promise<void>;
  denied(name: string, reason: string): void;
}

const RCODE = { ok: 0, formatError: 1, serverFailure: 2, noSuchName: 3, notImplemented: 4, refused: 5 } as const;

/** What is left of a message over UDP when the asker says nothing. Source: RFC 1035, 4.2.1. */
const PLAIN_UDP_BYTES = 512;
/** More would be fragmented on some ways. */
const MAX_UDP_BYTES = 1232;
const MAX_TCP_BYTES = 65_535;

/**
 * Answers a question of a guest. Only names that rules allow are asked for at all, so that DNS itself is no way out. IPv4
 * addresses are opened before they are answered. AAAA, HTTPS and SVCB have no records here: sandboxes have no IPv6, and the
 * latter two would make clients use QUIC and encrypted hellos, which are closed. Undefined for what deserves no answer. Never
 * rejects.
 */
export async function answerQuestion(
  message: Buffer,
  over: 'udp' | 'tcp',
  lookup: NameLookup,
  gate: DnsGate,
): Promise<Buffer | undefined> {
  try {
    return await answer(message, over, lookup, gate);
  } catch {
    // A question that can be read and not be written again.
    return undefined;
  }
}

async function answer(
  message: Buffer,
  over: 'udp' | 'tcp',
  lookup: NameLookup,
  gate: DnsGate,
): Promise<Buffer | undefined> {
  const query = decode(message);
  if (query === undefined || query.type !== 'query') return undefined;
  const [question, ...others] = query.questions ?? [];
  if (question === undefined || others.length > 0 || opcodeOf(message) !== 0)
    return reply(query, RCODE.formatError, []);
  const name = parseDomainName(question.name);
  if (name === undefined || !gate.isAllowed(name)) {
    gate.denied(name ?? question.name.slice(0, 255), 'this name is not allowed');
    return reply(query, RCODE.refused, []);
  }
  try {
    const answers = await recordsOf(question.type, question.name, name, lookup, gate);
    if (answers === 'refused') return reply(query, RCODE.refused, []);
    const whole = reply(query, RCODE.ok, answers);
    return whole.length > limitOf(query, over) ? reply(query, RCODE.ok, [], packet.TRUNCATED_RESPONSE) : whole;
  } catch (error) {
    return reply(query, rcodeOf(error), []);
  }
}

async function recordsOf(
  type: string,
  asked: string,
  name: string,
  lookup: NameLookup,
  gate: DnsGate,
): Promise<Answer[] | 'refused'> {
  if (type === 'A') {
    const found = await lookup.addresses(name);
    if (found.open.length === 0 && found.closed > 0) {
      gate.denied(name, 'this name leads to addresses that are closed to sandboxes');
      return 'refused';
    }
    await gate.open(name, found);
    return found.open.map((address) => ({ type: 'A', name: asked, ttl: found.ttlSec, data: formatIpv4(address) }));
  }
  const ttl = UNTIMED_TTL_SEC;
  const resolver = await lookup.resolver();
  switch (type) {
    case 'TXT':
      return (await resolver.resolveTxt(name)).map((data) => ({ type: 'TXT', name: asked, ttl, data }));
    case 'MX':
      return (await resolver.resolveMx(name)).map(({ priority: preference, exchange }) => ({
        type: 'MX',
        name: asked,
        ttl,
        data: { preference, exchange },
      }));
    case 'SRV':
      return (await resolver.resolveSrv(name)).map(({ name: target, port, priority, weight }) => ({
        type: 'SRV',
        name: asked,
        ttl,
        data: { target, port, priority, weight },
      }));
    default:
      // The name is there, records of this type are not.
      return [];
  }
}

/** Of records whose lifetime Node does not tell. */
const UNTIMED_TTL_SEC = 60;

function decode(message: Buffer): DecodedPacket | undefined {
  try {
    return packet.decode(message);
  } catch {
    return undefined;
  }
}

function opcodeOf(message: Buffer): number {
  return message.length < 4 ? 0 : (message.readUInt16BE(2) >> 11) & 0xf;
}

function reply(query: DecodedPacket, rcode: number, answers: Answer[], flags = 0): Buffer {
  const response: Packet = {
    type: 'response',
    id: query.id ?? 0,
    flags: ((query.flags ?? 0) & packet.RECURSION_DESIRED) | packet.RECURSION_AVAILABLE | flags | rcode,
    questions: query.questions ?? [],
    answers,
    additionals: ednsOf(query) === undefined ? [] : [EDNS],
  };
  return packet.encode(response);
}

const EDNS: Answer = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: MAX_UDP_BYTES,
  flags: 0,
  options: [],
  extendedRcode: 0,
  ednsVersion: 0,
  flag_do: false,
};

function ednsOf(query: DecodedPacket) {
  return query.additionals?.find((record) => record.type === 'OPT');
}

function limitOf(query: DecodedPacket, over: 'udp' | 'tcp'): number {
  if (over === 'tcp') return MAX_TCP_BYTES;
  const edns = ednsOf(query);
  const size = edns !== undefined && 'udpPayloadSize' in edns ? Number(edns.udpPayloadSize) : PLAIN_UDP_BYTES;
  return Math.max(PLAIN_UDP_BYTES, Math.min(MAX_UDP_BYTES, size));
}

/** Source: the error codes of node:dns. */
function rcodeOf(error: unknown): number {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOTFOUND') return RCODE.noSuchName;
  if (code === 'ENODATA') return RCODE.ok;
  return RCODE.serverFailure;
}
