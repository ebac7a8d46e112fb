import { Code, ConnectError, createContextKey, type HandlerContext, type Interceptor } from '@connectrpc/connect';
import type { AgentState } from '../state.ts';
import { lookupUser, type SystemUser } from '../users.ts';

const requestUserKey = createContextKey<SystemUser | undefined>(undefined, { description: 'user of the request' });

/** The user name of HTTP Basic credentials (the password is ignored), undefined when there are none. */
export function basicUserName(authorization: string | null | undefined): string | undefined {
  const encoded = /^basic +([a-z0-9+/=_-]*) *$/i.exec(authorization ?? '')?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : text.slice(0, colon);
}

/** Refuses credentials that name no user, before any method runs. */
export const requestUserInterceptor: Interceptor = (next) => (request) => {
  const name = basicUserName(request.header.get('Authorization'));
  if (name !== undefined) {
    const user = lookupUser(name);
    if (user === undefined) throw new ConnectError(`invalid username: '${name}'`, Code.Unauthenticated);
    request.contextValues.set(requestUserKey, user);
  }
  return next(request);
};

/** The user that a call acts for: the one it names, else the default one. Throws ConnectError `unauthenticated`. */
export function requestUser(state: AgentState, handler: HandlerContext): SystemUser {
  const user = handler.values.get(requestUserKey) ?? lookupUser(state.defaultUser);
  if (user === undefined) {
    throw new ConnectError(`the default user '${state.defaultUser}' does not exist`, Code.Unauthenticated);
  }
  return user;
}
