/** TCP port of the guest agent inside every VM. */
export const GUEST_AGENT_PORT = 49_983;

/** The envd interface version that the guest agent implements; the clients gate features by it. */
export const ENVD_VERSION = '0.6.13';

/** Routes of the guest agent that only the host may call; both proxies answer 404 for them (path is normalised first). */
export const GUEST_INTERNAL_PATHS: ReadonlySet<string> = new Set([
  '/init',
  '/clock',
  '/freeze',
  '/unfreeze',
  '/collapse',
  '/fsfreeze',
  '/fsthaw',
  '/upgrade',
  '/activity',
  '/logs',
  '/snapshot/prepare',
  '/snapshot/settle',
  '/memory/preload',
  '/memory/preload/cancel',
]);

/** The network that every guest sees, the same in each VM, so that a snapshot resumes anywhere. */
export const GUEST_NETWORK = {
  address: '169.254.0.21',
  prefixLength: 30,
  gateway: '169.254.0.22',
  mac: '02:fc:00:00:00:05',
  /** Of the gateway: a restored guest has it in its ARP cache, so it is the same in every slot. */
  gatewayMac: '02:fc:00:00:00:06',
  tapName: 'tap0',
  /** Where the host's own connections to a guest come from: the host's ends of the veth pairs. */
  hostRange: { address: '10.12.0.0', prefixLength: 16 },
} as const;
