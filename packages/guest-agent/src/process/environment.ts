import { Code, ConnectError } from '@connectrpc/connect';
import type { SystemUser } from '../users.ts';

/**
 * The environment of a process, later ones winning: the agent's PATH and the user's own names, what /init set for all
 * processes, what the request asks for (envd-interface.md, 3.3). Throws ConnectError `invalid_argument` for names and
 * values that no environment can hold.
 */
export function processEnvironment(
  user: SystemUser,
  global: Readonly<Record<string, string>>,
  requested: Readonly<Record<string, string>>,
): Map<string, string> {
  const variables = new Map([
    ['PATH', process.env.PATH ?? ''],
    ['HOME', user.home],
    ['USER', user.name],
    ['LOGNAME', user.name],
  ]);
  for (const source of [global, requested]) {
    for (const [name, value] of Object.entries(source)) {
      if (name === '' || name.includes('=') || name.includes('\0') || value.includes('\0')) {
        throw new ConnectError(`environment variable ${JSON.stringify(name)} is not valid`, Code.InvalidArgument);
      }
      variables.set(name, value);
    }
  }
  return variables;
}
