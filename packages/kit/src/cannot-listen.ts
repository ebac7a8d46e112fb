import { NestboxError } from '@nestbox/contract';

/** What a server says that could not have its port: which one it is, and why. */
export function cannotListen(
  what: string,
  { host, port }: { readonly host: string; readonly port: number },
  cause: unknown,
): NestboxError {
  const reason = isTaken(cause)
    ? 'another program has that port; end it, or choose another port.'
    : cause instanceof Error
      ? cause.message
      : String(cause);
  return new NestboxError('conflict', `The ${what} cannot listen on ${host}:${port}: ${reason}`, { cause });
}

function isTaken(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE';
}
