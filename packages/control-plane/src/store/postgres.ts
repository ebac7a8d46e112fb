import { NestboxError } from '@nestbox/contract';
import {
  HandleEmptyInListsPlugin,
  Kysely,
  PostgresDialect,
  type PostgresPool,
  type PostgresPoolClient,
  replaceWithNoncontingentExpression,
} from 'kysely';
import { Pool, type PoolClient, types } from 'pg';
import { cannotConnect, fromStatementError } from './postgres-errors.ts';
import { BytewiseText } from './postgres-text.ts';
import type { Database } from './schema.ts';

const MAX_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 5_000;
/** No statement of ours takes as long: a database that is silent has gone, or its machine has. */
const STATEMENT_TIMEOUT_MS = 15_000;
/** A server that stands still in the middle of a transaction does not keep the others from its rows for longer. */
const IDLE_TRANSACTION_MS = 5_000;
const TIMEOUTS = {
  query_timeout: STATEMENT_TIMEOUT_MS,
  statement_timeout: STATEMENT_TIMEOUT_MS,
  idle_in_transaction_session_timeout: IDLE_TRANSACTION_MS,
} as const;
const INT8 = types.builtins.INT8;

export interface PostgresOptions {
  /** For migrations, which may take long. */
  readonly noTimeout?: boolean;
}

/**
 * Opens connections to a PostgreSQL database as they are needed; a server that is down shows with the first statement.
 * Statements throw `database_unavailable` while it cannot serve. Throws `invalid_request` for what is no such URL.
 */
export function openPostgres(url: string, { noTimeout = false }: PostgresOptions = {}): Kysely<Database> {
  checkDatabaseUrl(url);
  const pool = new Pool({
    connectionString: url,
    application_name: 'nestbox',
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    ...(noTimeout ? {} : TIMEOUTS),
    keepAlive: true,
    types: {
      // Our integers are below 2^53; the driver gives 64-bit ones as text otherwise.
      getTypeParser: (oid: number, format?: 'text' | 'binary') =>
        oid === INT8 ? Number : types.getTypeParser(oid, format ?? 'text'),
    },
  });
  // What happens to connections at rest or between statements shows with the next statement; without listeners it would
  // end the process.
  pool.on('error', ignore);
  pool.on('connect', (client) => client.on('error', ignore));
  return new Kysely<Database>({
    dialect: new PostgresDialect({ pool: adaptPool(pool) }),
    plugins: [new BytewiseText(), new HandleEmptyInListsPlugin({ strategy: replaceWithNoncontingentExpression })],
  });
}

/** Throws `invalid_request`, without telling the URL: it may hold a password. */
function checkDatabaseUrl(url: string): void {
  const protocol = URL.canParse(url) ? new URL(url).protocol : undefined;
  if (protocol !== 'postgres:' && protocol !== 'postgresql:')
    throw new NestboxError(
      'invalid_request',
      'DATABASE_URL is not the address of a PostgreSQL database: it has the form postgres://user:password@host:5432/name.',
    );
}

function ignore(): void {}

/** The driver's pool with our errors, and without connections that broke. */
function adaptPool(pool: Pool): PostgresPool {
  return {
    options: pool.options,
    end: () => pool.end(),
    connect: async () => {
      try {
        return adaptClient(await pool.connect());
      } catch (error) {
        throw cannotConnect(error);
      }
    },
  };
}

function adaptClient(client: PoolClient): PostgresPoolClient {
  let isBroken = false;
  const query = async (sql: string, parameters: readonly unknown[]) => {
    try {
      return await client.query(sql, [...parameters]);
    } catch (error) {
      const known = fromStatementError(error);
      isBroken ||= known.isBroken;
      throw known.error;
    }
  };
  return {
    // Without cursors, since none are configured.
    query: query as unknown as PostgresPoolClient['query'],
    release: (discard) => client.release(isBroken || discard === true),
  };
}
