import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { askVersion } from '../process/program.ts';
import { programPath } from '../program-path.ts';

const JAILER_BINARY = 'jailer';

/**
 * The jailer that belongs to a Firecracker: the one that is named, else one beside it (also under a release's long name), else
 * one in PATH. Undefined when there is none of the same version, with which alone it works. Throws not_set_up, not_supported for a named
 * one that does not fit.
 */
export async function findJailer(
  firecracker: string,
  version: string,
  named: string | undefined,
): Promise<string | undefined> {
  const found = await realpath(await programPath(firecracker));
  const beside = [JAILER_BINARY, basename(found).replace('firecracker', JAILER_BINARY)]
    .filter((name) => name !== basename(found))
    .map((name) => join(dirname(found), name));
  const candidates = named === undefined ? [...beside, JAILER_BINARY] : [named];
  for (const candidate of candidates) {
    try {
      const path = await programPath(candidate);
      const said = await askVersion([path], parseJailerVersion);
      if (said === version) return path;
      if (named !== undefined)
        throw new NestboxError(
          'not_supported',
          `The jailer ${path} has version ${said}, but Firecracker ${version}; they must be of one release.`,
        );
    } catch (error) {
      if (named !== undefined) throw error;
    }
  }
  return undefined;
}

/** Reads what `jailer --version` prints. Throws not_supported for another program. */
function parseJailerVersion(output: string): string {
  const version = /^Jailer v(\d+\.\d+\.\d+)/im.exec(output)?.[1];
  if (version !== undefined) return version;
  throw new NestboxError('not_supported', `This is no jailer; it says of itself: ${output.slice(0, 100).trim()}`);
}
