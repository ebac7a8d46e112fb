import { readFile } from 'node:fs/promises';
import { before, describe } from 'node:test';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { Sandbox, type SandboxOpts } from 'e2b';
import { leadNamesHere } from './local-names.ts';
import type { TestServer } from './server.ts';
import { vmsCannotRun } from './state-folder.ts';
import { type ServerInUse, SUITE_SANDBOX_TIMEOUT_MS, useServer } from './suite.ts';

/**
 * What clients are told: the URLs of API and edge, in clear text; or the domain alone, from which they make names that lead to
 * the one listener with TLS.
 */
export type Addressing = 'urls' | 'domain';

const TITLES: Readonly<Record<Addressing, string>> = {
  urls: 'told the URLs of API and edge',
  domain: 'told the domain alone, with TLS',
};

const DOMAIN = 'box.example';

export interface AddressedServer extends ServerInUse {
  readonly addressing: Addressing;
  /** Where this addressing finds the API, and any sandbox by headers. */
  readonly apiUrl: string;
  readonly edgeUrl: string;
  /** What the clients take. */
  readonly connection: ClientAddress;
  /** The variables that say the same. */
  readonly variables: Readonly<Record<string, string>>;
  /** One for all tests of the suite, if its options have been given. In the second addressing it is joined, not made anew. */
  readonly sandbox: Sandbox;
}

type ClientAddress =
  | { readonly apiUrl: string; readonly sandboxUrl: string; readonly apiKey: string }
  | { readonly domain: string; readonly apiKey: string };

export interface AddressingOptions {
  /** Of the sandbox that the tests share. */
  readonly sandbox?: SandboxOpts;
  /** For clients that cannot be told where `box.example` leads. */
  readonly domain?: string;
  /** Why its tests cannot run here. */
  readonly skip?: string | false;
}

/** As `describe`, with a server of its own and every test once for each addressing. */
export function forEachAddressing(
  name: string,
  options: AddressingOptions,
  tests: (suite: AddressedServer) => void,
): void {
  describe(name, { skip: vmsCannotRun() || (options.skip ?? false) }, () => {
    const inUse = useServer(['--domain', options.domain ?? DOMAIN, '--tls', 'auto', '--tls-port', '0']);
    before(async () => {
      const { domain, caPath } = tlsOf(inUse.server);
      leadNamesHere(domain);
      setDefaultCACertificates([...getCACertificates('default'), await readFile(caPath, 'utf8')]);
    });
    let shared: Sandbox | undefined;
    for (const addressing of ['urls', 'domain'] as const)
      describe(TITLES[addressing], () => {
        let sandbox: Sandbox | undefined;
        const suite = addressed(inUse, addressing, () => sandbox);
        before(async () => {
          if (options.sandbox === undefined) return;
          if (shared === undefined) sandbox = await suite.createSandbox(options.sandbox);
          else sandbox = await joinEmptied(shared.sandboxId, suite.connection);
          shared = sandbox;
        });
        tests(suite);
      });
  });
}

/** The sandbox of an earlier suite, with nothing left in it that its tests have made. */
async function joinEmptied(sandboxId: string, connection: ClientAddress): Promise<Sandbox> {
  const sandbox = await Sandbox.connect(sandboxId, connection);
  for (const { pid } of await sandbox.commands.list()) await sandbox.commands.kill(pid);
  await sandbox.commands.run('rm -rf /tmp/* /home/user/*', { user: 'root' });
  return sandbox;
}

function addressed(inUse: ServerInUse, addressing: Addressing, shared: () => Sandbox | undefined): AddressedServer {
  const connection = (): ClientAddress => {
    const { server } = inUse;
    return addressing === 'urls' ? server.connection : { domain: tlsOf(server).domain, apiKey: server.apiKey };
  };
  return {
    addressing,
    get server() {
      return inUse.server;
    },
    get paths() {
      return inUse.paths;
    },
    get connection() {
      return connection();
    },
    get apiUrl() {
      return addressing === 'urls' ? inUse.server.apiUrl : `https://api.${tlsOf(inUse.server).domain}`;
    },
    get edgeUrl() {
      return addressing === 'urls' ? inUse.server.sandboxUrl : `https://sandbox.${tlsOf(inUse.server).domain}`;
    },
    get variables() {
      const { apiUrl, sandboxUrl, apiKey } = inUse.server;
      if (addressing === 'urls') return { E2B_API_URL: apiUrl, E2B_SANDBOX_URL: sandboxUrl, E2B_API_KEY: apiKey };
      const { domain, caPath, bundlePath } = tlsOf(inUse.server);
      return {
        E2B_DOMAIN: domain,
        E2B_API_KEY: apiKey,
        NODE_EXTRA_CA_CERTS: caPath,
        SSL_CERT_FILE: bundlePath,
      };
    },
    get sandbox() {
      const sandbox = shared();
      if (sandbox === undefined) throw new Error('the suite asked for no sandbox, or its first test has not begun');
      return sandbox;
    },
    createSandbox: (options) => Sandbox.create({ timeoutMs: SUITE_SANDBOX_TIMEOUT_MS, ...connection(), ...options }),
  };
}

function tlsOf(server: TestServer): NonNullable<TestServer['tls']> {
  if (server.tls === undefined) throw new Error('the server listens without TLS');
  return server.tls;
}
