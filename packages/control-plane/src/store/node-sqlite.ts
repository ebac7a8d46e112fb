import { chmodSync, closeSync, existsSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { NestboxError } from '@nestbox/contract';
import { Kysely, type SqliteDatabase, SqliteDialect, type SqliteStatement } from 'kysely';
import type { Database } from './schema.ts';

/** https://sqlite.org/rescode.html */
const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;

/**
 * Opens (or makes) the database file and keeps it for this process alone: a second server on the same file is refused
 * with `state_dir_in_use`. WAL, so that readers and the checkpoint do not block a writer; with `synchronous=NORMAL` a
 * crash of the process loses nothing, and a power cut ends the sandboxes too. Source: https://sqlite.org/wal.html
 */
export function openSqlite(path: string): Kysely<Database> {
  let database: DatabaseSync;
  try {
    if (path !== ':memory:') keepPrivate(path);
    database = new DatabaseSync(path);
  } catch (cause) {
    throw new NestboxError('not_set_up', `The database ${path} cannot be opened: check that its folder is writable.`, {
      cause,
    });
  }
  try {
    // The exclusive lock is taken by the first access, and WAL in this mode needs no shared-memory file.
    database.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;');
    database.exec('PRAGMA foreign_keys=ON; BEGIN IMMEDIATE; COMMIT;');
  } catch (cause) {
    database.close();
    if (hasResultCode(cause, SQLITE_BUSY))
      throw new NestboxError('state_dir_in_use', `Another server uses the database ${path}. Stop it first.`, { cause });
    throw new NestboxError('not_set_up', `The file ${path} is not a usable database.`, { cause });
  }
  return new Kysely<Database>({ dialect: new SqliteDialect({ database: adaptDatabase(database) }) });
}

/**
 * Whatever the folder lets others do, who ran what is for this user alone. SQLite gives the log of a database the mode of the
 * database, but leaves one that is there.
 */
function keepPrivate(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
  for (const file of [path, `${path}-wal`]) if (existsSync(file)) chmodSync(file, 0o600);
}

function hasResultCode(error: unknown, code: number): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === code;
}

/** Preparing takes longer than most statements do; lists with filters come in many shapes, hence a bound. */
const MAX_PREPARED = 200;

/** Shapes `node:sqlite` like the part of better-sqlite3 that Kysely's dialect uses. */
function adaptDatabase(database: DatabaseSync): SqliteDatabase {
  const prepared = new Map<string, SqliteStatement>();
  return {
    close: () => database.close(),
    prepare(sql) {
      const known = prepared.get(sql);
      if (known !== undefined) return known;
      const statement = adaptStatement(database.prepare(sql));
      prepared.set(sql, statement);
      const [oldest] = prepared.keys();
      if (prepared.size > MAX_PREPARED && oldest !== undefined) prepared.delete(oldest);
      return statement;
    },
  };
}

function adaptStatement(statement: StatementSync): SqliteStatement {
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => explained(() => statement.all(...parameters.map(toSqlValue))),
    run: (parameters) => explained(() => statement.run(...parameters.map(toSqlValue))),
    iterate: (parameters) => statement.iterate(...parameters.map(toSqlValue)),
  };
}

/** Tells a full disk as such; every other error stays as it is. */
function explained<T>(step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (!hasResultCode(error, SQLITE_FULL)) throw error;
    const message =
      'The disk is full: the database cannot be written. Free space under the state folder, then try again.';
    throw new NestboxError('host_disk_full', message, { cause: error });
  }
}

function toSqlValue(value: unknown): SQLInputValue {
  if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint')
    return value;
  throw new TypeError(`A ${typeof value} is no type that the schema uses.`);
}
