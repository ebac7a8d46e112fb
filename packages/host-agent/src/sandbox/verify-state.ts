import { openPageFile } from '../memory/page-file.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { type DiskSeal, readManifest } from '../storage/snapshot-manifest.ts';
import { type BackgroundOptions, sealedDisk } from './resting-disk.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** What was read in one round: files that many folders have are read once. */
export interface VerifyRound {
  readonly files: Map<string, string>;
  readonly images: Map<string, Promise<void>>;
}

export function newRound(): VerifyRound {
  return { files: new Map(), images: new Map() };
}

/** A saved state, or of a sandbox whose memory was not kept its disk alone. */
export interface RestingState {
  readonly machineFolder: string;
  /** Where the manifest is; undefined: no memory was kept. */
  readonly stateFolder: string | undefined;
  /** Undefined: the manifest's. */
  readonly disk: DiskSeal | undefined;
}

type Guards = Pick<SandboxContext, 'diskGuard' | 'imageGuard'>;

/**
 * Reads all files of a state, whatever their times say and whatever was found before. Throws `snapshot_damaged` for the first that is not what was
 * written, what the system says, and the signal's reason.
 */
export async function verifyState(
  { diskGuard, imageGuard }: Guards,
  { machineFolder, stateFolder, disk }: RestingState,
  round: VerifyRound,
  options: BackgroundOptions,
): Promise<void> {
  let seal = disk;
  if (stateFolder !== undefined) {
    const manifest = await readManifest(stateFolder);
    seal ??= manifest.disk;
    await imageGuard.verify(machineFolder, round.images, options);
    if (manifest.hasPages) await verifyPages(machineFiles(stateFolder).pages, options);
  }
  if (seal !== undefined) await diskGuard.verify(sealedDisk(machineFolder, seal), round.files, options);
}

async function verifyPages(path: string, { signal, pace }: BackgroundOptions): Promise<void> {
  await openPageFile(path).forEachPart(() => {}, signal, pace);
}
