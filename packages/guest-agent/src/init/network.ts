import { lstatSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { GUEST_NETWORK } from '@nestbox/contract';
import { attempt } from '../attempt.ts';
import { NetworkInterfaces } from '../system/network-interface.ts';

const INTERFACE = 'eth0';
const RESOLV_CONF = '/etc/resolv.conf';

/** Sets up what the kernel's command line or the initial RAM disk has not. */
export function configureNetwork(): void {
  const present = networkInterfaces();
  using interfaces = new NetworkInterfaces();
  if (present.lo === undefined) attempt('bringing lo up', () => interfaces.bringUp('lo'));
  if (!present[INTERFACE]?.some(({ address }) => address === GUEST_NETWORK.address)) {
    attempt(`configuring ${INTERFACE}`, () => {
      interfaces.setAddress(INTERFACE, GUEST_NETWORK.address, GUEST_NETWORK.prefixLength);
      interfaces.bringUp(INTERFACE);
      interfaces.setGateway(GUEST_NETWORK.gateway);
    });
  }
  attempt(`writing ${RESOLV_CONF}`, writeResolvConf);
}

/** The gateway passes questions on to the host's own resolver. */
function writeResolvConf(): void {
  mkdirSync('/etc', { recursive: true });
  // In many images a link to the file of a service that does not run here.
  if (lstatSync(RESOLV_CONF, { throwIfNoEntry: false })?.isSymbolicLink()) rmSync(RESOLV_CONF);
  writeFileSync(RESOLV_CONF, `nameserver ${GUEST_NETWORK.gateway}\n`);
}
