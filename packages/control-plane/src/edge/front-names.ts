import type { IncomingHttpHeaders } from 'node:http';
import { SANDBOX_ID_HEADER } from '@nestbox/contract';

/** Who a request is for, by the host name it was sent to. `nobody`: another domain's. */
export function whoServes(headers: IncomingHttpHeaders, domain: string): 'api' | 'sandbox' | 'nobody' {
  const name = hostName(headers.host ?? '');
  if (name === `api.${domain}`) return headers[SANDBOX_ID_HEADER] === undefined ? 'api' : 'sandbox';
  return name === domain || name.endsWith(`.${domain}`) ? 'sandbox' : 'nobody';
}

/** Without the port, in lower case, without the dot that ends a complete name. */
function hostName(host: string): string {
  return host
    .toLowerCase()
    .replace(/:[0-9]*$/, '')
    .replace(/\.$/, '');
}
