import dns, { type LookupAddress, type LookupOptions } from 'node:dns';

type Answer = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/**
 * `domain` (a port after it does not matter) and the names below it lead to this machine from now on, for all of this process,
 * as the operator's DNS records would have it. (The C library of a minimal Debian does not know what `*.localhost` means.)
 */
export function leadNamesHere(domain: string): void {
  const lookup = dns.lookup as (name: string, options: LookupOptions | Answer, answer?: Answer) => void;
  const here = domain.replace(/:[0-9]+$/, '');
  const redirected: typeof lookup = (name, options, answer) => {
    if (name !== here && !name.endsWith(`.${here}`)) return lookup(name, options, answer);
    const [settings, done] = typeof options === 'function' ? [{}, options] : [options, answer];
    const address = '127.0.0.1';
    if (settings.all) process.nextTick(() => done?.(null, [{ address, family: 4 }]));
    else process.nextTick(() => done?.(null, address, 4));
  };
  Object.assign(dns, { lookup: redirected });
}
