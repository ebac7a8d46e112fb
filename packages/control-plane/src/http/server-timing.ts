import type { FastifyReply } from 'fastify';
import type { TimedStage, Timings } from '../service/timings.ts';

/** What a name in the header may consist of. Source: RFC 9110, section 5.6.2, `token`. */
const NOT_IN_TOKEN = /[^!#$%&'*+.^_`|~0-9A-Za-z-]/g;
/** A host tells of some dozens; clients bound the headers of an answer. */
const MAX_STAGES = 60;
const MAX_NAME_LENGTH = 60;

/** Tells the client where the time went. Source: https://www.w3.org/TR/server-timing/, durations in milliseconds. */
export function sendTimings(reply: FastifyReply, timings: Timings): void {
  const stages = timings.list().slice(0, MAX_STAGES);
  if (stages.length > 0) reply.header('Server-Timing', stages.map(formatStage).join(', '));
}

export function formatStage({ name, durationMs }: TimedStage): string {
  const token = name.slice(0, MAX_NAME_LENGTH).replaceAll(NOT_IN_TOKEN, '-') || 'unnamed';
  return Number.isFinite(durationMs) ? `${token};dur=${Number(durationMs.toFixed(2))}` : token;
}
