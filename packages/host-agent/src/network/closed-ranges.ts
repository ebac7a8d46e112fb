/**
 * Destinations that no sandbox may reach, whatever its access to the internet: this machine and its private networks,
 * everything that is not ordinary unicast, and the cloud's metadata service (169.254.169.254).
 * Source: the IANA IPv4 special-purpose address registry (RFC 6890) and RFC 1918, without the documentation ranges.
 */
export const CLOSED_RANGES = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/4',
  '240.0.0.0/4',
] as const;

/** As a set of a table; the rules name it `@closed`. */
export const CLOSED_SET = `set closed {
    type ipv4_addr
    flags interval
    elements = { ${CLOSED_RANGES.join(', ')} }
  }`;
