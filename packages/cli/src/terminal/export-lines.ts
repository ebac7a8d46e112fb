import type { Endpoints } from '../client/endpoints.ts';

/** Lines for a POSIX shell that make every e2b client use this server. */
export function exportLines(endpoints: Endpoints): string {
  const variables = {
    E2B_API_URL: endpoints.apiUrl,
    ...(endpoints.sandboxUrl === undefined ? {} : { E2B_SANDBOX_URL: endpoints.sandboxUrl }),
    E2B_API_KEY: endpoints.apiKey,
  };
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}=${quote(value)}`)
    .join('\n');
}

/** Single quotes unless the word is plain. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
