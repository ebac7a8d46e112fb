import type { EgressDenial } from './denials.ts';

/** A denial as the sandbox's log tells it: message and fields. */
export function describeDenial(denial: EgressDenial): [message: string, fields: Record<string, string>] {
  const { protocol, name, address, port, reason, untold } = denial;
  const where = `${name ?? address ?? 'somewhere'}${port === undefined ? '' : `:${port}`}`;
  return [
    `Connection denied: ${protocol} to ${where}: ${reason}${untold === 0 ? '' : ` (and ${untold} more before)`}`,
    {
      event_type: 'egress_denied',
      protocol,
      ...(name === undefined ? {} : { name }),
      ...(address === undefined ? {} : { address }),
      ...(port === undefined ? {} : { port: `${port}` }),
    },
  ];
}
