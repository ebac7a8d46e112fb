import { NestboxError } from '@nestbox/contract';
import { Client } from 'pg';
import { cannotConnect } from './postgres-errors.ts';

/** Any number, the same in every version: the advisory lock of the one server that works on a database. */
const SERVER_LOCK = 7_305_842_612;
const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 15_000;
/** A server whose machine has gone lets go of the lock so many seconds later, not after the two hours of the system. */
const KEEP_ALIVE = ['tcp_keepalives_idle = 10', 'tcp_keepalives_interval = 5', 'tcp_keepalives_count = 3'] as const;

/**
 * The right to be the server of a PostgreSQL database: an advisory lock, and so as long as the connection that took it
 * lasts. It goes with the process, however that ends; a database that was restarted gives it to whoever asks first.
 * Whoever works on the database asks for it before every statement, so a server that lost it to another does nothing more.
 */
export class ServerLock implements AsyncDisposable {
  readonly #url: string;
  /** The connection that has the lock. */
  #holder: Client | undefined;
  #taking: Promise<void> | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  /**
   * Takes it, or finds that it is held. Throws `state_dir_in_use` when another server has it, `database_unavailable` when
   * the database cannot be asked.
   */
  async hold(): Promise<void> {
    if (this.#holder !== undefined) return;
    this.#taking ??= this.#take().finally(() => {
      this.#taking = undefined;
    });
    await this.#taking;
  }

  async #take(): Promise<void> {
    await using undo = new AsyncDisposableStack();
    const client = new Client({
      connectionString: this.#url,
      application_name: 'nestbox (server)',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      keepAlive: true,
    });
    undo.defer(() => client.end().catch(() => undefined));
    // Not those of a later connection: of one that breaks more than one event tells.
    const lost = () => {
      if (this.#holder === client) this.#holder = undefined;
    };
    client.once('end', lost);
    // Without a listener it would end the process.
    client.on('error', lost);
    if (!(await askFor(client)))
      throw new NestboxError('state_dir_in_use', 'Another Nestbox server works on this database. End it first.');
    undo.move();
    this.#holder = client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#taking?.catch(() => undefined);
    await this.#holder?.end();
  }
}

async function askFor(client: Client): Promise<boolean> {
  try {
    await client.connect();
    for (const setting of KEEP_ALIVE) await client.query(`set ${setting}`);
    const { rows } = await client.query<{ taken: boolean }>(`select pg_try_advisory_lock(${SERVER_LOCK}) as taken`);
    return rows[0]?.taken === true;
  } catch (error) {
    throw cannotConnect(error);
  }
}
