import type { NestboxPaths } from '@nestbox/kit';
import { requiredPackages } from '../image/host-packages.ts';
import { networkChecks } from '../network/network-checks.ts';
import type { VmDisk, VmmDescription } from '../vmm/driver.ts';
import { checkDiskCopies } from './disk-copy-checks.ts';
import type { HostCheck } from './host-check.ts';
import { checkDisk, checkImages } from './image-checks.ts';
import { checkMemory, checkPlatform, checkRoot, readMachine } from './machine-checks.ts';
import { checkPackages } from './package-checks.ts';
import { checkCgroups, checkVmm } from './vmm-checks.ts';

export type { HostCheck } from './host-check.ts';

export interface HostCheckOptions {
  readonly paths: NestboxPaths;
  /** As for setUp: an agent disk of other sources counts as missing. */
  readonly agentSources?: readonly string[];
  /** The chosen VM driver's `describe`; without it nothing is said of accelerators. */
  readonly describeVmm?: () => Promise<VmmDescription>;
  /** Disks that the chosen VM driver reads; without it nothing is said of copies. */
  readonly diskFormats?: readonly VmDisk['format'][];
  /** As configured for sandboxes. */
  readonly dnsUpstream?: string;
}

/**
 * Every need of this machine, met or not, in the order in which one would mend them. Changes nothing (files that it measures with
 * are gone afterwards); needs no root to say what is missing. Takes as long as the VM driver's probe when that is not remembered.
 */
export async function hostChecks(options: HostCheckOptions): Promise<HostCheck[]> {
  const { paths, agentSources, describeVmm, diskFormats, dnsUpstream } = options;
  const machine = await readMachine();
  const checks = await Promise.all([
    [checkPlatform(machine), checkRoot(machine)],
    checkPackages(requiredPackages),
    describeVmm === undefined ? [] : checkVmm(describeVmm),
    checkCgroups(),
    networkChecks(dnsUpstream === undefined ? {} : { dnsUpstream }).then((found) =>
      found.map((check): HostCheck => ({ id: networkCheckId(check.name), ...check })),
    ),
    [checkMemory(machine)],
    checkDisk(paths.stateDir),
    diskFormats === undefined ? [] : checkDiskCopies(paths.stateDir, diskFormats),
    checkImages(paths, agentSources),
  ]);
  return checks.flat();
}

/** `Packet filter` → `network-packet-filter` */
function networkCheckId(name: string): string {
  return `network-${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}`;
}
