import { NestboxError } from '@nestbox/contract';
import {
  type AdminTeam,
  type ApiKey,
  type AuditEntryView,
  adminTeamBody,
  apiKeyBody,
  auditEntryBody,
  type CreatedApiKey,
  createdApiKeyBody,
  diskUsageBody,
  type HostDiskUsage,
  killedSandboxesBody,
  type Node,
  type NodeStatus,
  nodeBody,
  type TeamLimitsBody,
} from '@nestbox/contract/http';
import type { NestboxPaths } from '@nestbox/kit';
import { z } from 'zod';
import { adminTokenPath, readSecret } from '../server/secrets.ts';
import { ApiConnection } from './api-connection.ts';
import { type Endpoints, requireServer } from './endpoints.ts';

/** What entries of the audit trail are wanted; what is undefined does not matter. */
export interface AuditSearch {
  readonly teamId: string | undefined;
  readonly since?: Date;
  readonly until?: Date;
  readonly operation?: string;
  readonly target?: string;
  readonly actor?: string;
  readonly limit: number;
}

const AUDIT_PAGE = 100;

/** What administrators ask of the control API: teams, the keys of each, and hosts. Throws NestboxError with the server's own words. */
export class AdminApi {
  readonly #api: ApiConnection;

  private constructor(api: ApiConnection) {
    this.#api = api;
  }

  /**
   * The running server's, with the token of NESTBOX_ADMIN_TOKEN or the state folder's. The latter goes to the server that
   * runs on the folder and to no other, whatever the environment names. Throws `server_not_running`, and `unauthorized` when
   * there is no token.
   */
  static async open(env: NodeJS.ProcessEnv, paths: NestboxPaths): Promise<AdminApi> {
    const server = await requireServer(env, paths);
    const token = env.NESTBOX_ADMIN_TOKEN || (await ownToken(server, paths));
    return new AdminApi(new ApiConnection(server, { 'X-Admin-Token': token }));
  }

  async listTeams(signal?: AbortSignal): Promise<AdminTeam[]> {
    const { body } = await this.#api.call({ method: 'GET', path: '/admin/teams' }, signal);
    return this.#api.parse(z.array(adminTeamBody), body);
  }

  /** By id or name; undefined: the first team, whose the server's own key is. Throws `team_not_found`. */
  async findTeam(word: string | undefined, signal?: AbortSignal): Promise<AdminTeam> {
    const teams = await this.listTeams(signal);
    const found = teams.find((team) =>
      word === undefined ? team.isDefault : team.teamID === word || team.name === word,
    );
    if (found !== undefined) return found;
    throw new NestboxError('team_not_found', `There is no team ${JSON.stringify(word ?? 'default')}.`);
  }

  async createTeam(name: string, limits: Partial<TeamLimitsBody>, signal?: AbortSignal): Promise<AdminTeam> {
    const json = { name, limits };
    const { body } = await this.#api.call({ method: 'POST', path: '/admin/teams', json }, signal);
    return this.#api.parse(adminTeamBody, body);
  }

  /** Limits that are not named stay as they were. */
  async limitTeam(teamId: string, limits: Partial<TeamLimitsBody>, signal?: AbortSignal): Promise<AdminTeam> {
    const { body } = await this.#api.call({ method: 'PATCH', path: teamPath(teamId), json: { limits } }, signal);
    return this.#api.parse(adminTeamBody, body);
  }

  async renameTeam(teamId: string, name: string, signal?: AbortSignal): Promise<AdminTeam> {
    const { body } = await this.#api.call({ method: 'PATCH', path: teamPath(teamId), json: { name } }, signal);
    return this.#api.parse(adminTeamBody, body);
  }

  /** Throws `conflict` while something is the team's, and for the default team. */
  async deleteTeam(teamId: string, signal?: AbortSignal): Promise<void> {
    await this.#api.call({ method: 'DELETE', path: teamPath(teamId) }, signal);
  }

  /** Paused ones too. Throws `host_unavailable` when some could not be ended. */
  async killSandboxes(teamId: string, signal?: AbortSignal): Promise<void> {
    const { body } = await this.#api.call({ method: 'POST', path: `${teamPath(teamId)}/sandboxes/kill` }, signal);
    const { failedCount } = this.#api.parse(killedSandboxesBody, body);
    if (failedCount > 0)
      throw new NestboxError('host_unavailable', `${failedCount} sandboxes could not be ended yet; try again.`);
  }

  async listKeys(teamId: string, signal?: AbortSignal): Promise<ApiKey[]> {
    const { body } = await this.#api.call({ method: 'GET', path: keysPath(teamId) }, signal);
    return this.#api.parse(z.array(apiKeyBody), body);
  }

  /** The answer is the only one that ever has the key itself. */
  async createKey(
    teamId: string,
    key: { readonly name: string; readonly expiresAt: Date | undefined },
    signal?: AbortSignal,
  ): Promise<CreatedApiKey> {
    const json = { name: key.name, ...(key.expiresAt === undefined ? {} : { expiresAt: key.expiresAt.toISOString() }) };
    const { body } = await this.#api.call({ method: 'POST', path: keysPath(teamId), json }, signal);
    return this.#api.parse(createdApiKeyBody, body);
  }

  async renameKey(teamId: string, keyId: string, name: string, signal?: AbortSignal): Promise<void> {
    const path = `${keysPath(teamId)}/${encodeURIComponent(keyId)}`;
    await this.#api.call({ method: 'PATCH', path, json: { name } }, signal);
  }

  async revokeKey(teamId: string, keyId: string, signal?: AbortSignal): Promise<void> {
    await this.#api.call({ method: 'DELETE', path: `${keysPath(teamId)}/${encodeURIComponent(keyId)}` }, signal);
  }

  /** The hosts of the server. */
  async listNodes(signal?: AbortSignal): Promise<Node[]> {
    const { body } = await this.#api.call({ method: 'GET', path: '/nodes' }, signal);
    return this.#api.parse(z.array(nodeBody), body);
  }

  async getNode(nodeId: string, signal?: AbortSignal): Promise<Node> {
    const { body } = await this.#api.call({ method: 'GET', path: nodePath(nodeId) }, signal);
    return this.#api.parse(nodeBody, body);
  }

  async setNodeStatus(nodeId: string, status: NodeStatus, signal?: AbortSignal): Promise<void> {
    await this.#api.call({ method: 'POST', path: nodePath(nodeId), json: { status } }, signal);
  }

  /** Of all teams. */
  async getDiskUsage(signal?: AbortSignal): Promise<HostDiskUsage[]> {
    const { body } = await this.#api.call({ method: 'GET', path: '/disk' }, signal);
    return this.#api.parse(diskUsageBody, body).hosts;
  }

  /** Lets every host begin to read all that rests on it; `getDiskUsage` tells what comes of it. */
  async beginVerification(signal?: AbortSignal): Promise<void> {
    await this.#api.call({ method: 'POST', path: '/admin/disk/verify' }, signal);
  }

  /** Newest first. */
  async listAudit(search: AuditSearch, signal?: AbortSignal): Promise<AuditEntryView[]> {
    const query = new URLSearchParams();
    for (const [name, value] of [
      ['team', search.teamId],
      ['since', search.since?.toISOString()],
      ['until', search.until?.toISOString()],
      ['operation', search.operation],
      ['target', search.target],
      ['actor', search.actor],
    ] as const)
      if (value !== undefined) query.set(name, value);
    const entries: AuditEntryView[] = [];
    for (;;) {
      query.set('limit', String(Math.min(AUDIT_PAGE, search.limit - entries.length)));
      const { body, headers } = await this.#api.call({ method: 'GET', path: `/audit?${query}` }, signal);
      entries.push(...this.#api.parse(z.array(auditEntryBody), body));
      const next = headers.get('x-next-token');
      if (next === null || entries.length >= search.limit) return entries;
      query.set('nextToken', next);
    }
  }
}

function nodePath(nodeId: string): string {
  return `/nodes/${encodeURIComponent(nodeId)}`;
}

function teamPath(teamId: string): string {
  return `/admin/teams/${encodeURIComponent(teamId)}`;
}

function keysPath(teamId: string): string {
  return `${teamPath(teamId)}/api-keys`;
}

async function ownToken({ apiUrl, pid }: Endpoints & { readonly pid?: number }, paths: NestboxPaths): Promise<string> {
  // Only what runs on this folder has a process here.
  if (pid !== undefined) return await readToken(paths);
  throw new NestboxError('unauthorized', `Set NESTBOX_ADMIN_TOKEN to the admin token of the server at ${apiUrl}.`);
}

async function readToken(paths: NestboxPaths): Promise<string> {
  const path = adminTokenPath(paths);
  const token = await readSecret(path).catch((cause: unknown) => {
    throw new NestboxError(
      'unauthorized',
      `The admin token in ${path} cannot be read: be root, or set NESTBOX_ADMIN_TOKEN.`,
      {
        cause,
      },
    );
  });
  if (token !== undefined) return token;
  throw new NestboxError(
    'unauthorized',
    `There is no admin token in ${path}: set NESTBOX_ADMIN_TOKEN to the server's.`,
  );
}
