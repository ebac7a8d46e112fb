import { type ErrorCode, NestboxError } from '@nestbox/contract';

/**
 * SQLSTATE classes and codes that say that the database cannot serve now. Source: PostgreSQL, appendix A: connection
 * exceptions, insufficient resources, operator intervention, a server that is a read-only standby, a transaction that stood
 * still.
 */
const UNAVAILABLE_STATES = /^(08...|53...|57P..|57014|25006|25P03)$/;
const NO_NUL: readonly [ErrorCode, string] = ['invalid_request', 'A text in the request holds a NUL character.'];
const REFUSED_STATES: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  '22021': NO_NUL,
  '54000': [
    'invalid_request',
    'A text in the request is too long for the database: a metadata key may have 2,600 bytes.',
  ],
};

/** What of an error may be told and logged: never an object of the driver, which may lead to a password. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Several addresses were tried: each has its own error.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join('; ');
  return error.message;
}

/** For what goes wrong before a statement reaches the database, whatever it is. */
export function cannotConnect(error: unknown): NestboxError {
  return unavailable(`The database cannot be reached: ${reasonOf(error)}.`, error);
}

/** Of an error that a statement ended with. `isBroken`: the connection is of no more use. */
export function fromStatementError(error: unknown): { readonly error: unknown; readonly isBroken: boolean } {
  const state = sqlState(error);
  // The driver's own errors (a connection that went away, a time-out) and those of the system have no SQLSTATE.
  if (state === undefined)
    return { error: unavailable(`The database does not answer: ${reasonOf(error)}.`, error), isBroken: true };
  if (UNAVAILABLE_STATES.test(state))
    return { error: unavailable(`The database does not serve now: ${reasonOf(error)}.`, error), isBroken: true };
  const [code, message] = REFUSED_STATES[state] ?? [];
  if (code === undefined || message === undefined) return { error, isBroken: false };
  return { error: new NestboxError(code, message, { cause: error }), isBroken: false };
}

function sqlState(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || !('severity' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

function unavailable(message: string, error: unknown): NestboxError {
  return new NestboxError('database_unavailable', message, { cause: new Error(reasonOf(error)) });
}
