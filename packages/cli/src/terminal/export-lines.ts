import type { Endpoints } from '../client/endpoints.ts';

/**
 * Lines for a POSIX shell that make every e2b client use this server: over TLS by its domain where it speaks TLS, else by
 * its two URLs. What the shell may have from another server and would win is taken out. `keyWord` stands for the API key, in the
 * shell's words, where the key itself is not to be shown.
 */
export function exportLines(endpoints: Endpoints, keyWord = quote(endpoints.apiKey)): string {
  const variables = Object.entries(clientVariables(endpoints));
  const lines = variables.map(([name, value]) => `export ${name}=${name === 'E2B_API_KEY' ? keyWord : quote(value)}`);
  return [...(endpoints.tls === undefined ? [] : ['unset E2B_API_URL E2B_SANDBOX_URL']), ...lines].join('\n');
}

/** The environment of a client. */
export function clientVariables({ apiUrl, sandboxUrl, apiKey, tls }: Endpoints): Record<string, string> {
  if (tls !== undefined)
    return {
      E2B_DOMAIN: tls.domain,
      E2B_API_KEY: apiKey,
      ...(tls.authority === undefined
        ? {}
        : { NODE_EXTRA_CA_CERTS: tls.authority.caPath, SSL_CERT_FILE: tls.authority.bundlePath }),
    };
  return {
    E2B_API_URL: apiUrl,
    ...(sandboxUrl === undefined ? {} : { E2B_SANDBOX_URL: sandboxUrl }),
    E2B_API_KEY: apiKey,
  };
}

/** Single quotes unless the word is plain. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
