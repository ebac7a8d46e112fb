import { aptEnvironment } from './apt.ts';
import { runTool } from './run-tool.ts';

/** Debian's own mirror network, for machines that use another Debian or another distribution. */
const DEFAULT_MIRROR = 'http://deb.debian.org';

/**
 * Lines for mmdebstrap from which a suite and its updates come: the mirrors that this machine's apt uses for the same
 * suite when there are, so that a local mirror is used, else Debian's own.
 */
export async function debianSources(suite: string, signal?: AbortSignal): Promise<string[]> {
  const { stdout } = await runTool(
    'apt-get',
    ['indextargets', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)', 'Created-By: Packages'],
    { env: aptEnvironment(), ...(signal && { signal }) },
  );
  const own = parseIndexTargets(stdout, suite);
  return own.some((line) => line.split(' ')[2] === suite) ? own : defaultSources(suite);
}

export function defaultSources(suite: string): string[] {
  return [
    `deb ${DEFAULT_MIRROR}/debian ${suite} main`,
    `deb ${DEFAULT_MIRROR}/debian ${suite}-updates main`,
    `deb ${DEFAULT_MIRROR}/debian-security ${suite}-security main`,
  ];
}

/** The `main` component of the suite, its updates and its security updates, from `URI RELEASE COMPONENT` lines. */
export function parseIndexTargets(output: string, suite: string): string[] {
  const wanted = [suite, `${suite}-updates`, `${suite}-security`];
  const lines = output.split('\n').flatMap((line) => {
    const [uri, release, component] = line.trim().split(' ');
    if (uri === undefined || release === undefined || component !== 'main' || !wanted.includes(release)) return [];
    // A local folder or a CD is not reachable from inside mmdebstrap.
    return /^https?:\/\//.test(uri) ? [`deb ${uri.replace(/\/+$/, '')} ${release} main`] : [];
  });
  return [...new Set(lines)];
}
