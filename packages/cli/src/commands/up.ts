import { NESTBOX_VERSION } from '@nestbox/contract';
import { createLogger, type LogLevel, resolvePaths } from '@nestbox/kit';
import { type Command, Option } from 'commander';
import type { Endpoints } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { collectPrivate, collectWarm, parseGib, parseListenPort, wholeNumber } from '../option-values.ts';
import { type HostAgentWords, hostAgentOptions } from '../server/host-agent-options.ts';
import { apiKeyPath, readSecret } from '../server/secrets.ts';
import { announceServer } from '../server/server-file.ts';
import { upBanner } from '../terminal/up-banner.ts';
import { parseDomain, parseTls, type TlsWish } from '../tls-option.ts';

export interface UpOptions extends HostAgentWords {
  readonly host: string;
  readonly port: number;
  readonly sandboxPort: number;
  readonly domain?: string;
  readonly tls: TlsWish;
  readonly tlsPort: number;
  readonly metricsPort?: number;
  readonly stopTimeout: number;
  readonly auditDays: number;
  readonly auditEntries: number;
  readonly logLevel: LogLevel;
  readonly keepSandboxes?: boolean;
  readonly setup?: boolean;
  readonly json?: boolean;
}

const MOST_WAIT_SEC = 3600;
const MOST_DAYS = 36_500;
const MOST_ENTRIES = 1_000_000_000;
const MOST_SNAPSHOTS = 1_000_000;
const MOST_SCRUB_HOURS = 8760;

const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'silent'];

export function addUp(program: Command): void {
  program
    .command('up')
    .description('start the all-in-one server: control API, sandbox edge and host agent in one process')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port of the control API (0: any free one)', parseListenPort, 3000)
    .option('--sandbox-port <port>', 'port by which sandboxes are reached (0: any free one)', parseListenPort, 3001)
    .option(
      '--domain <domain>',
      'base domain: <port>-<sandboxId>.<domain> leads to the sandbox port (default: nestbox.localhost)',
      parseDomain,
    )
    .addOption(
      new Option('--tls <how>', 'also serve API and sandboxes on one port over TLS: auto, off, or CERT,KEY (PEM files)')
        .argParser(parseTls)
        .default({ kind: 'off' }, 'off'),
    )
    .option('--tls-port <port>', 'that port (0: any free one)', parseListenPort, 443)
    .option(
      '--metrics-port <port>',
      'port on 127.0.0.1 where Prometheus finds /metrics (0: any free one)',
      parseListenPort,
    )
    .option(
      '--stop-timeout <s>',
      'at the end: how long to wait for requests under way',
      wholeNumber(0, MOST_WAIT_SEC),
      10,
    )
    .option('--audit-days <n>', 'how long the audit trail is kept', wholeNumber(1, MOST_DAYS), 90)
    .option('--audit-entries <n>', "most entries of each team's keys to keep", wholeNumber(1, MOST_ENTRIES), 100_000)
    .option('--vmm <name>', 'VM manager to run sandboxes on (auto: the best that runs here)', 'auto')
    .option('--warm <TEMPLATE=N>', 'keep N sandboxes of a template ready to be handed out (repeatable)', collectWarm)
    .option('--max-snapshots <n>', 'most paused sandboxes and snapshots to keep', wholeNumber(0, MOST_SNAPSHOTS))
    .option('--max-snapshot-gib <n>', 'most GiB of disk for paused sandboxes and snapshots', parseGib)
    .option(
      '--scrub-hours <h>',
      'read all that rests here every so many hours, to find what the disk forgot (0: never)',
      wholeNumber(0, MOST_SCRUB_HOURS),
      24,
    )
    .option('--no-snapshots', 'boot every sandbox from its disk, never from memory of its template (for diagnosis)')
    .option('--allow-private <ADDRESS|CIDR>', 'private addresses that sandboxes may reach (repeatable)', collectPrivate)
    .option('--setup', 'first make what is missing on this machine, as nestbox setup does')
    .option('--keep-sandboxes', 'leave the sandboxes running at the end; the next start finds them again')
    .addOption(new Option('--log-level <level>', 'log lines to standard error').choices(LOG_LEVELS).default('warn'))
    .option('--json', 'print one line of JSON when the server is ready')
    .action(up);
}

/** Serves until a signal ends it. */
async function up(options: UpOptions): Promise<void> {
  const begunMs = performance.now();
  using guard = new InterruptGuard();
  const paths = resolvePaths();
  // Loaded only here: the daemons' code is most of the program.
  const [{ requireReadyHost, setUpHost }, { LOCAL_DOMAIN, startAllInOne }, { nameAdvice, setUpTls }] =
    await Promise.all([
      import('../server/readiness.ts'),
      import('../server/all-in-one.ts'),
      import('../server/tls-listener.ts'),
    ]);
  if (options.setup) {
    const { setupReporter } = await import('../terminal/setup-reporter.ts');
    // Standard output belongs to the line that says "ready".
    await setUpHost(paths, setupReporter(process.stderr), { signal: guard.signal });
  }
  await requireReadyHost(paths);
  guard.signal.throwIfAborted();

  // The key is made by the first one.
  const isFirstStart = (await readSecret(apiKeyPath(paths))) === undefined;
  await using cleanup = new AsyncDisposableStack();
  const logger = createLogger({ level: options.logLevel, name: 'nestbox' });
  const tlsAddress = { host: options.host, port: options.tlsPort };
  const tls = await setUpTls(options.tls, options.domain ?? LOCAL_DOMAIN, tlsAddress, paths, guard.signal);
  // With TLS, what is in clear text is for this machine's own programs alone.
  const host = tls === undefined ? options.host : '127.0.0.1';
  const domain = options.domain ?? (tls === undefined ? undefined : LOCAL_DOMAIN);
  const server = await startAllInOne({
    paths,
    logger,
    api: { host, port: options.port },
    edge: { host, port: options.sandboxPort },
    hostAgent: hostAgentOptions(options),
    stopTimeoutMs: options.stopTimeout * 1000,
    audit: { keepDays: options.auditDays, maxEntries: options.auditEntries },
    ...(options.metricsPort === undefined ? {} : { metrics: { host: '127.0.0.1', port: options.metricsPort } }),
    ...(domain === undefined ? {} : { domain }),
    ...(tls === undefined ? {} : { tls: tls.listener }),
  });
  cleanup.defer(() => server.stop({ destroySandboxes: !options.keepSandboxes }));
  const { apiUrl, sandboxUrl, apiKey, metricsUrl } = server;
  const endpoints: Endpoints = {
    apiUrl,
    sandboxUrl,
    apiKey,
    tls:
      tls === undefined || server.domain === undefined
        ? undefined
        : { domain: server.domain, authority: tls.authority },
  };
  const announced = { apiUrl, sandboxUrl, tls: endpoints.tls, version: NESTBOX_VERSION };
  cleanup.defer(await announceServer(paths, announced));
  guard.signal.throwIfAborted();

  if (options.json)
    console.log(
      JSON.stringify({
        apiUrl,
        sandboxUrl,
        apiKey,
        pid: process.pid,
        ...(endpoints.tls && { tls: endpoints.tls }),
        ...(metricsUrl && { metricsUrl }),
      }),
    );
  else {
    const showsKey = isFirstStart && process.stdout.isTTY;
    const elapsedMs = performance.now() - begunMs;
    console.log(upBanner({ stateDir: paths.stateDir, endpoints, elapsedMs, keyPath: apiKeyPath(paths), showsKey }));
  }
  const advice = tls === undefined ? undefined : await nameAdvice(domain ?? LOCAL_DOMAIN);
  if (advice !== undefined) console.error(advice);

  await aborted(guard.signal);
  if (!options.json)
    console.error(options.keepSandboxes ? 'Ending; sandboxes go on …' : 'Ending, sandboxes too; paused ones stay …');
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
