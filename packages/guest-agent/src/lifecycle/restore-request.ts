import { GUEST_RESTORE } from '@nestbox/contract';
import { RestError } from '../rest.ts';
import type { InitRequest } from './init-request.ts';

const NAMES = GUEST_RESTORE.headers;
const NO_VARIABLES = {};

/**
 * What the headers of /restore say. Takes them as they came, in pairs: an object of them, with names that no other request has, is made by
 * code of V8's that nothing else runs. Throws RestError 400.
 */
export function readRestoreRequest(rawHeaders: readonly string[]): InitRequest {
  const timestampUs = Number(textOf(rawHeaders, NAMES.time));
  const lifecycleId = textOf(rawHeaders, NAMES.lifecycleId);
  if (!Number.isSafeInteger(timestampUs) || lifecycleId === undefined)
    throw new RestError(400, `${NAMES.time} and ${NAMES.lifecycleId} are needed`);
  return {
    accessToken: textOf(rawHeaders, NAMES.accessToken),
    envVars: variables(headerOf(rawHeaders, NAMES.envVars)),
    timestampUs,
    defaultUser: textOf(rawHeaders, NAMES.defaultUser),
    defaultWorkdir: textOf(rawHeaders, NAMES.defaultWorkdir),
    hyperloopIp: undefined,
    lifecycleId,
    sandboxId: textOf(rawHeaders, NAMES.sandboxId),
    templateId: textOf(rawHeaders, NAMES.templateId),
    proxyDomain: textOf(rawHeaders, NAMES.proxyDomain),
    caBundle: undefined,
    entropy: textOf(rawHeaders, NAMES.entropy) ?? '',
    volumeMounts: [],
  };
}

/** Undefined when it is absent or empty. */
function textOf(rawHeaders: readonly string[], name: string): string | undefined {
  const value = headerOf(rawHeaders, name);
  return value === '' ? undefined : value;
}

function headerOf(rawHeaders: readonly string[], name: string): string | undefined {
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index] !== name) continue;
    const value = rawHeaders[index + 1];
    return value?.includes('%') ? decode(value, name) : value;
  }
  return undefined;
}

function decode(value: string, name: string): string {
  try {
    return decodeURIComponent(value);
  } catch (cause) {
    throw new RestError(400, `${name} is not percent-encoded`, { cause });
  }
}

/** Absent: those that there are stay. Empty: none. */
function variables(text: string | undefined): Readonly<Record<string, string>> | undefined {
  if (text === undefined) return undefined;
  if (text === '') return NO_VARIABLES;
  try {
    return JSON.parse(text) as Record<string, string>;
  } catch (cause) {
    throw new RestError(400, `${NAMES.envVars} is no JSON`, { cause });
  }
}
