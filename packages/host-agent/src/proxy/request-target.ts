import { GUEST_AGENT_PORT, isInternalGuestPath, parsePort, type SandboxAddress } from '@nestbox/contract';

/** What a request to the host proxy asks for. */
export interface RequestTarget extends SandboxAddress {
  /** Path and query as the application gets them: the text behind the prefix, never re-encoded. */
  readonly path: string;
}

const TARGET = /^(\/proxy\/([a-z0-9]{1,32})\/([0-9]{1,5}))(?=[/?]|$)/;

/** Reads `/proxy/<sandboxId>/<port>/…`. The prefix is cut off as text, so doubled and trailing slashes survive. */
export function parseRequestTarget(url: string): RequestTarget | undefined {
  const match = TARGET.exec(url);
  if (match === null) return undefined;
  const [, prefix = '', sandboxId = '', portText = ''] = match;
  const port = parsePort(portText);
  if (port === undefined) return undefined;
  const rest = url.slice(prefix.length);
  return { sandboxId, port, path: rest.startsWith('/') ? rest : `/${rest}` };
}

/** True when the request would reach a route of the guest agent that only the host may call, however it is spelled. */
export function isGuestInternal(target: RequestTarget): boolean {
  return target.port === GUEST_AGENT_PORT && isInternalGuestPath(target.path);
}
