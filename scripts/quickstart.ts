/**
 * `npm run quickstart`: from a fresh machine to commands in a microVM, driven by the unmodified `e2b` package; every step on
 * screen with its time. Nothing is left running at the end, however it comes.
 */
import assert from 'node:assert/strict';
import { styleText } from 'node:util';
import { type NestboxPaths, resolvePaths } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { type Endpoints, findServer } from '../packages/cli/src/client/endpoints.ts';
import { describeFailure, printFailure } from '../packages/cli/src/failure.ts';
import { InterruptGuard } from '../packages/cli/src/interruption.ts';
import { setUpHost } from '../packages/cli/src/server/readiness.ts';
import { exportLines } from '../packages/cli/src/terminal/export-lines.ts';
import { formatSeconds } from '../packages/cli/src/terminal/format-seconds.ts';
import { setupReporter } from '../packages/cli/src/terminal/setup-reporter.ts';
import { findLeftovers } from '../test/support/leftovers.ts';
import { startServer } from '../test/support/server.ts';
import { stepScreen } from './quickstart/screen.ts';
import { tour } from './quickstart/tour.ts';

async function quickstart(): Promise<void> {
  const begunMs = performance.now();
  using guard = new InterruptGuard();
  const paths = resolvePaths();

  console.log(styleText('bold', 'Prepare this machine'));
  await setUpHost(paths, setupReporter(process.stdout), { signal: guard.signal });
  guard.signal.throwIfAborted();
  console.log('');

  const { running, apiKey } = await serveAndTour(paths, guard.signal);
  console.log(`${styleText('green', 'Done')} in ${formatSeconds(performance.now() - begunMs)}. Now you:\n`);
  console.log(nextSteps(running, apiKey));
}

/**
 * A server, a sandbox and the tour through it; all of it is gone again when this returns or throws. Returns the server that was
 * running before, and the key.
 */
async function serveAndTour(
  paths: NestboxPaths,
  signal: AbortSignal,
): Promise<{ running: Endpoints | undefined; apiKey: string }> {
  const showStep = stepScreen(signal);
  const running = await findServer({}, paths);
  // Sandboxes that a server left running on purpose (up --keep-sandboxes) are somebody's; they stay as they are.
  const before = await findLeftovers(paths);
  await using cleanup = new AsyncDisposableStack();
  const server =
    running?.sandboxUrl === undefined
      ? await showStep('Start Nestbox: control plane and host agent in one process', async (say) => {
          const started = cleanup.use(await startServer(paths, before.length > 0 ? ['--keep-sandboxes'] : []));
          say(`API at ${started.apiUrl}, sandboxes at ${started.sandboxUrl}`);
          return started.connection;
        })
      : { apiUrl: running.apiUrl, sandboxUrl: running.sandboxUrl, apiKey: running.apiKey };
  if (running !== undefined) console.log(`Nestbox runs here already (process ${running.pid}); using it.\n`);

  let creating: Promise<Sandbox> | undefined;
  // Also ends a sandbox that is still being made when the user gives up.
  cleanup.defer(async () => {
    const made = await creating?.catch(() => undefined);
    await made?.kill();
  });
  await orInterrupted(signal, async () => {
    const sandbox = await showStep('Create a sandbox with the e2b package', async (say) => {
      creating = Sandbox.create({ ...server, timeoutMs: 120_000, metadata: { madeBy: 'quickstart' } });
      const { sandboxId } = await creating;
      say(`sandbox ${sandboxId}`);
      return await creating;
    });
    await tour(sandbox, server.sandboxUrl, showStep);
    await showStep('Kill the sandbox', async () => {
      assert.equal(await sandbox.kill(), true);
      assert.equal(await sandbox.isRunning(), false);
    });
  });

  if (running === undefined)
    await showStep('End Nestbox and look for anything left behind', async (say) => {
      await cleanup.disposeAsync();
      const after = await findLeftovers(paths);
      assert.deepEqual(
        after.filter((each) => !before.includes(each)),
        [],
      );
      say('no process, network namespace, interface, mount, cgroup or file');
    });
  return { running, apiKey: server.apiKey };
}

/** The first to come: the end of the work, or the user's signal. Work that goes on then fails as its server goes. */
async function orInterrupted(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  const interrupted = Promise.withResolvers<never>();
  const onAbort = () => interrupted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    await Promise.race([work(), interrupted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** A server that was running before goes on, so none is to be started. */
function nextSteps(running: Endpoints | undefined, apiKey: string): string {
  const dim = (text: string) => styleText('gray', text);
  const own = { apiUrl: 'http://127.0.0.1:3000', sandboxUrl: 'http://127.0.0.1:3001', apiKey };
  const start = `${dim('# in one terminal: the server')}\nnpx nestbox up\n\n`;
  const where = running === undefined ? 'in another' : 'in a terminal';
  return `${running === undefined ? start : ''}${dim(`# ${where}: tell the e2b client (npm, Python or CLI) where it is`)}
${exportLines(running ?? own)}

${dim('# and use it')}
node --input-type=module -e '
  import { Sandbox } from "e2b";
  const sandbox = await Sandbox.create();
  console.log((await sandbox.commands.run("python3 -c \\"print(6 * 7)\\"")).stdout);
  await sandbox.kill();
'

${dim('# or without a program of yours')}
npx nestbox run -- python3 -c 'print(6 * 7)'
`;
}

try {
  await quickstart();
} catch (error) {
  const failure = describeFailure(error);
  if (failure !== undefined) {
    printFailure(failure, false);
    process.exitCode = failure.exitCode;
  }
}
