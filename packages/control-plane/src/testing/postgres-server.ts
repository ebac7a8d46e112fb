import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { chown, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';

const START_TIMEOUT_MS = 60_000;

/** Debian's PostgreSQL, the newest that is installed; undefined when there is none. */
function findPrograms(): string | undefined {
  return globSync('/usr/lib/postgresql/*/bin')
    .filter((folder) => existsSync(join(folder, 'initdb')))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
}

/** For `skip` of a test: why there can be no PostgreSQL here, or false. */
export function postgresMissing(): string | false {
  if (findPrograms() === undefined) return 'no PostgreSQL under /usr/lib/postgresql (apt-get install postgresql)';
  if (process.getuid?.() === 0 && postgresUser() === undefined)
    return 'no user "postgres", and PostgreSQL refuses root';
  return false;
}

function postgresUser(): { readonly uid: number; readonly gid: number } | undefined {
  const [, uid, gid] = /^postgres:[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8')) ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

/**
 * Makes the database files, runs the server, stops and starts it as it is told, and removes everything when its input ends,
 * which it does when the test process has gone, however it went.
 */
const SUPERVISE = `
folder=$1 programs=$2
"$programs/initdb" --pgdata="$folder/data" --auth=scram-sha-256 --pwfile="$folder/password" --username=postgres \
  --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions >>"$folder/log" 2>&1
start() {
  "$programs/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c fsync=off -c full_page_writes=off \
    -c max_connections=200 -c shared_buffers=32MB >>"$folder/log" 2>&1 &
  server=$!
}
start
while read -r command; do
  case $command in
    stop) kill -INT "$server"; wait "$server"; echo stopped;;
    start) start;;
  esac
done
kill -INT "$server"
wait "$server"
rm -rf "$folder"
`;

const PASSWORD = 'secret-of-the-test-database';

export interface PostgresServer {
  /** Makes an empty database, or a copy of another one that nobody uses; answers its URL. */
  createDatabase(template?: string): Promise<string>;
  /** Ends all connections and takes none until `resume`. */
  suspend(): Promise<void>;
  resume(): Promise<void>;
  /** Resolves when server and files are gone. Without it they go with this process. */
  stop(): Promise<void>;
}

/** Starts an empty server on a unix socket, as the user `postgres` when we are root. Rejects with its log. */
export async function startPostgres(): Promise<PostgresServer> {
  const programs = findPrograms();
  if (programs === undefined) throw new Error(String(postgresMissing()));
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-pg-'));
  await writeFile(join(folder, 'password'), PASSWORD);
  const user = process.getuid?.() === 0 ? postgresUser() : undefined;
  if (user !== undefined) {
    await chown(join(folder, 'password'), user.uid, user.gid);
    await chown(folder, user.uid, user.gid);
  }
  // A group of its own: a signal for the group of the test must not end it before it has cleaned up.
  const supervisor = spawn('/bin/sh', ['-c', SUPERVISE, 'sh', folder, programs], {
    ...user,
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const ended = once(supervisor, 'exit');
  supervisor.unref();
  for (const stream of [supervisor.stdin, supervisor.stdout]) if (stream instanceof Socket) stream.unref();

  const urlOf = (name: string) =>
    `postgres://postgres:${PASSWORD}@localhost/${name}?host=${encodeURIComponent(folder)}`;
  const execute = async (statement: string) => {
    const client = new Client(urlOf('postgres'));
    await client.connect();
    try {
      await client.query(statement);
    } finally {
      await client.end();
    }
  };
  const untilServing = async () => {
    for (const endMs = Date.now() + START_TIMEOUT_MS; ; ) {
      try {
        return await execute('select 1');
      } catch (error) {
        if (Date.now() > endMs || supervisor.exitCode !== null)
          throw new Error(`PostgreSQL did not start: ${await readFile(join(folder, 'log'), 'utf8')}`, { cause: error });
        await delay(50);
      }
    }
  };
  let count = 0;
  const server: PostgresServer = {
    createDatabase: async (template) => {
      count += 1;
      const name = `test_${count}`;
      await execute(`create database ${name}${template === undefined ? '' : ` template ${nameOf(template)}`}`);
      return urlOf(name);
    },
    suspend: async () => {
      const stopped = once(supervisor.stdout, 'data');
      supervisor.stdin.write('stop\n');
      await stopped;
    },
    resume: async () => {
      supervisor.stdin.write('start\n');
      await untilServing();
    },
    stop: async () => {
      supervisor.stdin.end();
      await ended;
    },
  };
  try {
    await untilServing();
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

function nameOf(url: string): string {
  return new URL(url).pathname.slice(1);
}
