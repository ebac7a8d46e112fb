import { NestboxError } from '@nestbox/contract';

/** The release that is current when this is written, and the two before. All know what the calls say. */
const FIRST_MINOR = 14;
const LAST_MINOR = 16;

export interface FirecrackerVersion {
  /** E.g. `1.16.0`. */
  readonly text: string;
  readonly minor: number;
}

/** Reads what `firecracker --version` prints. Throws not_supported for another program or a version that is not known to work. */
export function parseFirecrackerVersion(output: string): FirecrackerVersion {
  const [, text, major, minor] = /^Firecracker v((\d+)\.(\d+)\.\d+)/m.exec(output) ?? [];
  if (text === undefined)
    throw new NestboxError(
      'not_supported',
      `This is no Firecracker; it says of itself: ${output.slice(0, 100).trim()}`,
    );
  if (Number(major) !== 1 || Number(minor) < FIRST_MINOR || Number(minor) > LAST_MINOR)
    throw new NestboxError(
      'not_supported',
      `Firecracker ${text} is not supported; versions 1.${FIRST_MINOR} to 1.${LAST_MINOR} are.`,
    );
  return { text, minor: Number(minor) };
}
