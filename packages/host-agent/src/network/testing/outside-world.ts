import { runCommand } from '@nestbox/kit';
import { RemoteTraffic } from './remote-traffic.ts';

/** The host's own address towards the world. */
export const HOST_PUBLIC = '198.51.100.1';
/** Servers of the world, all of them TCP and UDP on port 80: an ordinary one … */
export const PUBLIC_SERVER = '203.0.113.10';
/** … one in a private network that the host can reach … */
export const PRIVATE_SERVER = '10.99.0.1';
/** … and where clouds have their metadata service. */
export const METADATA_SERVER = '169.254.169.254';
/** Resolvers, TCP and UDP on port 53. */
export const PUBLIC_RESOLVER = '203.0.113.53';
export const PRIVATE_RESOLVER = '10.99.0.53';

/**
 * Everything beyond the host's default interface, which has an MTU of 1,400 bytes. Only to be made inside a private host.
 */
export async function makeOutsideWorld(): Promise<RemoteTraffic> {
  await runCommand('ip', ['-batch', '-'], {
    input: `netns add outside
link add wan0 mtu 1400 type veth peer name eth0 mtu 1400 netns outside
addr add ${HOST_PUBLIC}/24 dev wan0
link set wan0 up
`,
  });
  const addresses = [PUBLIC_SERVER, PRIVATE_SERVER, METADATA_SERVER, PUBLIC_RESOLVER, PRIVATE_RESOLVER];
  await runCommand('ip', ['-n', 'outside', '-batch', '-'], {
    input: `link set lo up
addr add 198.51.100.2/24 dev eth0
link set eth0 up
${addresses.map((address) => `addr add ${address}/32 dev lo`).join('\n')}
`,
  });
  await runCommand('ip', ['-batch', '-'], {
    input: `route add default via 198.51.100.2
route add 10.99.0.0/24 via 198.51.100.2
`,
  });
  const traffic = await RemoteTraffic.start('outside');
  for (const server of [PUBLIC_SERVER, PRIVATE_SERVER, METADATA_SERVER]) {
    await traffic.listenTcp(server, 80);
    await traffic.listenUdp(server, 80);
  }
  for (const resolver of [PUBLIC_RESOLVER, PRIVATE_RESOLVER]) {
    await traffic.listenTcp(resolver, 53);
    await traffic.listenUdp(resolver, 53);
  }
  return traffic;
}
