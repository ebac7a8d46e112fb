import { parseArgs } from 'node:util';
import { GUEST_AGENT_PORT } from '@nestbox/contract';

export interface CommandLine {
  readonly host: string;
  readonly port: number;
  readonly runtimeDir: string;
  readonly portForwarding: boolean;
}

/** Parses the agent's arguments; throws an Error that says what is wrong with them. */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const { values } = parseArgs({
    args: [...args],
    options: {
      listen: { type: 'string', default: `0.0.0.0:${GUEST_AGENT_PORT}` },
      'runtime-dir': { type: 'string', default: '/run/e2b' },
      'no-port-forwarding': { type: 'boolean', default: false },
    },
  });
  const [, host, port] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(values.listen) ?? [];
  if (host === undefined || Number(port) > 0xffff) throw new Error(`--listen ${values.listen} is not HOST:PORT`);
  return {
    host,
    port: Number(port),
    runtimeDir: values['runtime-dir'],
    portForwarding: !values['no-port-forwarding'],
  };
}
