import { attempt } from '../attempt.ts';
import { RestError, type RestHandler, readBody, sendJson } from '../rest.ts';
import type { Clock } from '../system/clock.ts';
import { leaveProcessorCounter } from '../system/clock-source.ts';
import { correctClock } from './clock-correction.ts';
import type { HostAddresses } from './host-addresses.ts';

const MAX_BODY_BYTES = 1024;

/**
 * POST /clock: corrects the clock by `offset_ns` if the body names one, and answers when the request came and when the
 * answer went, as nanoseconds of Unix time by the corrected clock. From these and its own two times the host knows how far
 * the clocks are apart, however long the way takes (RFC 5905, section 8). With `leave_tsc: true` the kernel reads the time by another counter than
 * the processor's from then on, which runs at another rate on this host than on the one where the guest booted.
 *
 * Only the host may ask: whoever sets the clock can make certificates and signed URLs valid again.
 */
export function clockRoute(clock: Clock, hostAddresses: HostAddresses): RestHandler {
  return async (request, response, _url, { isInit }) => {
    let receivedNs = clock.nowNs();
    if (isInit && !hostAddresses.includes(request.socket.remoteAddress)) {
      throw new RestError(403, 'only the host sets the clock');
    }
    const { offsetNs, leaveTsc } = parseBody(await readBody(request, MAX_BODY_BYTES));
    if (leaveTsc && isInit) attempt('leaving the processor’s counter', leaveProcessorCounter);
    // Elsewhere the machine is not the agent's own, and its clock stays as it is.
    if (offsetNs !== undefined && isInit) receivedNs += correctClock(clock, offsetNs);
    sendJson(response, 200, { received_ns: `${receivedNs}`, sent_ns: `${clock.nowNs()}` });
  };
}

/** An empty body is as good as `{}`. Throws RestError 400. */
function parseBody(bytes: Buffer): { readonly offsetNs: bigint | undefined; readonly leaveTsc: boolean } {
  let json: unknown = {};
  try {
    if (bytes.length > 0) json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new RestError(400, 'the body is no JSON', { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new RestError(400, 'the body is no JSON object');
  }
  const { offset_ns: offset, leave_tsc: leaveTsc = false } = json as { offset_ns?: unknown; leave_tsc?: unknown };
  if (typeof leaveTsc !== 'boolean') throw new RestError(400, 'leave_tsc is neither true nor false');
  if (offset === undefined || offset === null) return { offsetNs: undefined, leaveTsc };
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset)) {
    throw new RestError(400, 'offset_ns is no whole number of nanoseconds');
  }
  return { offsetNs: BigInt(offset), leaveTsc };
}
