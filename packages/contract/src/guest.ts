/** TCP port of the guest agent inside every VM. */
export const GUEST_AGENT_PORT = 49_983;

/** The envd interface version that the guest agent implements; the clients gate features by it. */
export const ENVD_VERSION = '0.6.13';

/** Routes of the guest agent that only the host may call; both proxies answer 404 for them (path is normalised first). */
export const GUEST_INTERNAL_PATHS: ReadonlySet<string> = new Set([
  '/init',
  '/restore',
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

/**
 * The host's quick form of POST /init, for a guest whose user waits: the same settings, without a body, as headers. Values are percent-encoded
 * (`encodeURIComponent`). A guest agent from before there was one answers 404, or 401 when its token is another.
 */
export const GUEST_RESTORE = {
  path: '/restore',
  headers: {
    /** Microseconds of Unix time, decimal. */
    time: 'x-nestbox-time-us',
    lifecycleId: 'x-nestbox-lifecycle-id',
    /** Base64, which needs no encoding. */
    entropy: 'x-nestbox-entropy',
    accessToken: 'x-nestbox-access-token',
    /** JSON. Empty: no variables. */
    envVars: 'x-nestbox-env',
    defaultUser: 'x-nestbox-user',
    defaultWorkdir: 'x-nestbox-workdir',
    sandboxId: 'x-nestbox-sandbox-id',
    templateId: 'x-nestbox-template-id',
    proxyDomain: 'x-nestbox-proxy-domain',
  },
  /** Of all headers together; who has more sends /init. */
  maxBytes: 8192,
} as const;

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
