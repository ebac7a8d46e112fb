import { openPageFile } from '../memory/page-file.ts';
import { PAGE_BYTES } from '../memory/page-runs.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { type Checkpoint, checkpoint, tidyInTurn } from './checkpoint.ts';
import type { CopyStarts } from './copy-starts.ts';
import { restorePlan } from './create-plan.ts';
import { foldPagesIntoImage } from './fold-pages.ts';
import type { HostState } from './host-state.ts';
import type { ForkCopy, ForkOutcome } from './sandbox.ts';
import { toSandboxError } from './sandbox-error.ts';
import type { Trace } from './trace.ts';

/** With more changed pages than this it is cheaper that copies share them than that each has its own. */
const SHARE_FROM_BYTES = 64 * 2 ** 20;

export async function forkSandbox(
  host: HostState,
  starts: CopyStarts,
  sandboxId: string,
  copies: readonly ForkCopy[],
  trace: Trace,
): Promise<readonly ForkOutcome[]> {
  const { serial, context } = host;
  using after = new DisposableStack();
  after.use(starts.announce(copies.map((copy) => copy.sandboxId)));
  after.defer(() => tidyInTurn(host, sandboxId));
  await using source = await serial.run(sandboxId, () => checkpoint(host, sandboxId, trace));
  const shared = copies.length > 1 ? await trace.measure('share', () => shareChangedPages(source)) : source;
  const { identity } = source.sandbox;
  const plan = restorePlan(shared, { isSpare: copies.length === 1 });
  const outcomes = await Promise.all(
    copies.map(async (copy): Promise<ForkOutcome> => {
      const spec = { ...identity.spec, ...copy };
      try {
        const started = starts.start({ ...identity, spec, createdAtMs: Date.now() }, plan);
        return { sandbox: await trace.measure(`copy ${copy.sandboxId}`, () => started) };
      } catch (error) {
        return { error: toSandboxError(error, copy.sandboxId) };
      }
    }),
  );
  const failed = outcomes.filter((outcome) => 'error' in outcome).length;
  context.logger.info({ sandboxId, copies: copies.length, failed }, 'a sandbox was forked');
  return outcomes;
}

/** Makes an image of all pages when there are many, so that the copies have them from one file. */
async function shareChangedPages(source: Checkpoint): Promise<Checkpoint> {
  const files = machineFiles(source.folder);
  if (openPageFile(files.pages).table.pageCount * PAGE_BYTES < SHARE_FROM_BYTES) return source;
  await foldPagesIntoImage(source.folder);
  return { ...source, hasPages: false };
}
