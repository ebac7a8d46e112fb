import { findProgram, installLine, missingPackages, type RequiredPackage } from '../image/host-packages.ts';
import type { HostCheck } from './host-check.ts';

/** A check for each package. What only a set-up needs is a warning: with images made elsewhere sandboxes run without. */
export async function checkPackages(
  packages: readonly RequiredPackage[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<HostCheck[]> {
  const missing = new Map((await missingPackages(packages, env)).map((entry) => [entry.name, entry.missing]));
  return Promise.all(
    packages.map(async (wanted) => {
      const absent = missing.get(wanted.name);
      const paths = await Promise.all(wanted.needs.map((name) => findProgram(name, env)));
      return {
        id: `package-${wanted.name}`,
        name: wanted.name,
        state: absent === undefined ? 'ok' : wanted.use === 'run' ? 'failed' : 'warning',
        found: absent === undefined ? paths.join(', ') : `missing: ${absent.join(', ')}`,
        why: `Needed to ${wanted.why}.`,
        mend: absent === undefined ? undefined : installLine([wanted]),
      } as const;
    }),
  );
}
