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
import type { ServerLock } from './server-lock.ts';

const MAX_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 5_000;
/** No statement of ours takes as long: a database that is silent has gone, or its machine has. */
const STATEMENT_TIMEOUT_MS = 15_000;
const INT8 = types.builtins.INT8;

export interface PostgresOptions {
  /** For migrations, which may take long. */
  readonly noTimeout?: boolean;
  /** Without it, or with one that another server has, no statement goes out. Goes with the database's `destroy()`. */
  readonly lock?: ServerLock;
}

/**
 * Opens connections to a PostgreSQL database as they are needed; a server that is down shows with the first statement.
 * Statements throw `database_unavailable` while it cannot serve. Throws `invalid_request` for what is no such URL.
 */
export function openPostgres(url: string, { noTimeout = false, lock }: PostgresOptions = {}): Kysely<Database> {
  checkDatabaseUrl(url);
  const pool = new Pool({
    connectionString: url,
    application_name: 'nestbox',
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    ...(noTimeout ? {} : { query_timeout: STATEMENT_TIMEOUT_MS, statement_timeout: STATEMENT_TIMEOUT_MS }),
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
    dialect: new PostgresDialect({ pool: adaptPool(pool, lock) }),
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
function adaptPool(pool: Pool, lock: ServerLock | undefined): PostgresPool {
  return {
    options: pool.options,
    end: async () => {
      await pool.end();
      await lock?.[Symbol.asyncDispose]();
    },
    connect: async () => {
      await lock?.hold();
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
