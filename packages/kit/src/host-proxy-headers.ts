/** By this a caller from another machine shows that it may use a host. */
export const HOST_TOKEN_HEADER = 'x-nestbox-host-token';
/** What of a `ProxyOrder` is neither path nor the application's business, where there is HTTP between edge and host. */
export const MASKED_HOST_HEADER = 'x-nestbox-masked-host';
export const SECURE_PORT_HEADER = 'x-nestbox-secure-port';

/** Between edge and host only: neither does a client's own header of such a name pass, nor does an application see one. */
export const HOST_ONLY_HEADERS: ReadonlySet<string> = new Set([
  HOST_TOKEN_HEADER,
  MASKED_HOST_HEADER,
  SECURE_PORT_HEADER,
]);
