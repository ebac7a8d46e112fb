import { RestError, type RestHandler, readBody, sendJson } from '../rest.ts';
import type { Clock } from '../system/clock.ts';
import { correctClock } from './clock-correction.ts';
import type { HostAddresses } from './host-addresses.ts';

const MAX_BODY_BYTES = 1024;

/**
 * POST /clock: corrects the clock by `offset_ns` if the body names one, and answers when the request came and when the
 * answer went, as nanoseconds of Unix time by the corrected clock. From these and its own two times the host knows how far
 * the clocks are apart, however long the way takes (RFC 5905, section 8).
 *
 * Only the host may ask: whoever sets the clock can make certificates and signed URLs valid again.
 */
export function clockRoute(clock: Clock, hostAddresses: HostAddresses): RestHandler {
  return async (request, response, _url, { isInit }) => {
    let receivedNs = clock.nowNs();
    if (isInit && !hostAddresses.includes(request.socket.remoteAddress)) {
      throw new RestError(403, 'only the host sets the clock');
    }
    const offsetNs = parseOffset(await readBody(request, MAX_BODY_BYTES));
    // Elsewhere the machine is not the agent's own, and its clock stays as it is.
    if (offsetNs !== undefined && isInit) receivedNs += correctClock(clock, offsetNs);
    sendJson(response, 200, { received_ns: `${receivedNs}`, sent_ns: `${clock.nowNs()}` });
  };
}

/** An empty body is as good as `{}`. Throws RestError 400. */
function parseOffset(bytes: Buffer): bigint | undefined {
  let json: unknown = {};
  try {
    if (bytes.length > 0) json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new RestError(400, 'the body is no JSON', { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new RestError(400, 'the body is no JSON object');
  }
  if (!('offset_ns' in json) || json.offset_ns === null) return undefined;
  const { offset_ns: offset } = json;
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset)) {
    throw new RestError(400, 'offset_ns is no whole number of nanoseconds');
  }
  return BigInt(offset);
}
