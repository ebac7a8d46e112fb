import { NestboxError } from '@nestbox/contract';
import { aptInstall, withFreshIndexes } from './apt.ts';
import { findProgram, installLine, type MissingPackage, missingPackages } from './host-packages.ts';

export interface InstallPackagesOptions {
  readonly onDetail: (detail: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Installs what is missing on a Debian machine. Throws not_set_up, with the line to run or the list of what is missing,
 * when that cannot be done here: another distribution, or no root.
 */
export async function installPackages(
  missing: readonly MissingPackage[],
  { onDetail, signal }: InstallPackagesOptions,
): Promise<void> {
  const names = missing.map(({ name }) => name);
  if ((await findProgram('apt-get')) === undefined || (await findProgram('dpkg')) === undefined)
    throw new NestboxError(
      'not_set_up',
      `This machine has no apt to install packages with. Missing: ${describeMissing(missing)}.`,
    );
  if (process.geteuid?.() !== 0)
    throw new NestboxError('not_set_up', `Debian packages are missing. Run: ${installLine(missing)}`);

  onDetail(`installing ${names.join(', ')}`);
  const options = {
    onOutput: (text: string) => {
      for (const line of text.split('\n')) if (/^(Get:|Unpacking|Setting up)/.test(line)) onDetail(line.trim());
    },
    ...(signal && { signal }),
  };
  try {
    await withFreshIndexes(() => aptInstall(names, options.onOutput), options);
  } catch (cause) {
    signal?.throwIfAborted();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new NestboxError(
      'not_set_up',
      `apt could not install the packages: ${reason}\nTry: ${installLine(missing)}`,
      { cause },
    );
  }
  const still = await missingPackages(missing);
  if (still.length > 0)
    throw new NestboxError('not_set_up', `Installed, but still not found: ${describeMissing(still)}.`);
}

/** `qemu-img (package qemu-utils, needed to …), …` */
export function describeMissing(missing: readonly MissingPackage[]): string {
  return missing
    .map(({ name, missing: programs, why }) => `${programs.join(', ')} (package ${name}, needed to ${why})`)
    .join('; ');
}
