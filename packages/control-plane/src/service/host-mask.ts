/** Stands in a mask for the port that a request goes to. */
const PORT_VARIABLE = ['$', '{PORT}'].join('');

/** `host` or `host:port`; the variable may be part of either. */
const HOST_MASK = /^(?=.{1,255}$)(?:[a-z0-9._-]|\$\{PORT\})+(?::(?:[0-9]{1,5}|\$\{PORT\}))?$/i;

export const HOST_MASK_RULE = `a host name, with or without a port; ${PORT_VARIABLE} stands for the port that is asked for`;

export function isHostMask(mask: string): boolean {
  return HOST_MASK.test(mask);
}

/** The Host header that an application on `port` is to see. */
export function hostOfMask(mask: string, port: number): string {
  return mask.replaceAll(PORT_VARIABLE, String(port));
}
