import { createHash, timingSafeEqual } from 'node:crypto';
import { NestboxError } from '@nestbox/contract';
import type { FastifyRequest } from 'fastify';
import type { RefusedCredential } from '../service/audit-trail.ts';
import { requireTeam } from '../service/manage-teams.ts';
import type { ServiceContext } from '../service/service-context.ts';
import type { Caller } from './caller.ts';

/**
 * Finds out who asks. An API key in `X-API-Key`, or as a bearer token, which is where clients put access tokens: one of
 * them must be valid. Or the admin token in `X-Admin-Token`, which speaks for the team in `X-Team-ID` if there is one.
 */
export class Authenticator {
  readonly #context: ServiceContext;
  readonly #adminToken: Buffer | undefined;

  constructor(context: ServiceContext, adminToken: string | undefined) {
    this.#context = context;
    this.#adminToken = adminToken === undefined ? undefined : sha256(adminToken);
  }

  /** Throws `unauthorized`, and `team_not_found` when an administrator names one that is not there. */
  async authenticate({ headers, ip }: Pick<FastifyRequest, 'headers' | 'ip'>): Promise<Caller> {
    const refuse = (credential: RefusedCredential, message: string): NestboxError => {
      this.#context.audit.noteRefusal(credential, ip);
      return new NestboxError('unauthorized', message);
    };
    const adminToken = headers['x-admin-token'];
    if (typeof adminToken === 'string' && adminToken !== '') {
      if (!this.#isAdminToken(adminToken)) throw refuse('admin', 'The admin token is not valid.');
      return await this.#admin(headers['x-team-id']);
    }
    const presented = [headers['x-api-key'], bearerToken(headers.authorization)];
    const keys = presented.filter((key) => typeof key === 'string' && key !== '');
    if (keys.length === 0)
      throw refuse('nothing', 'Send an API key in the header "X-API-Key". "nestbox env" shows yours.');
    for (const key of keys) {
      const owner = typeof key === 'string' ? await this.#context.keys.findOwner(key) : undefined;
      if (owner !== undefined && typeof key === 'string') return { kind: 'key', ...owner, key };
    }
    throw refuse(
      'key',
      'The API key is not valid: it is unknown, revoked or expired. "nestbox env" shows the one of this server.',
    );
  }

  #isAdminToken(presented: string): boolean {
    return this.#adminToken !== undefined && timingSafeEqual(sha256(presented), this.#adminToken);
  }

  async #admin(teamId: string | string[] | undefined): Promise<Caller> {
    if (typeof teamId !== 'string' || teamId === '') return { kind: 'admin', teamId: undefined };
    await requireTeam(this.#context, teamId);
    return { kind: 'admin', teamId };
  }
}

function bearerToken(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
