import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { parseTcpTable, type TcpSocket } from './tcp-table.ts';

const TABLES = ['/proc/net/tcp', '/proc/net/tcp6'] as const;

/** All TCP sockets of this network namespace. */
export async function readTcpSockets(): Promise<TcpSocket[]> {
  const tables = await Promise.all(TABLES.map((path) => readFile(path, 'utf8').catch(() => '')));
  return tables.flatMap(parseTcpTable);
}

/** The same at this very moment, before anything else can happen in the agent. */
export function readTcpSocketsNow(): TcpSocket[] {
  return TABLES.flatMap((path) => {
    try {
      return parseTcpTable(readFileSync(path, 'utf8'));
    } catch {
      return [];
    }
  });
}
