import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { z } from 'zod';
import { damagedFile } from '../../damaged-file.ts';
import type { VmMachine } from '../driver.ts';
import { diskJailPath } from './run-files.ts';

const file = z.object({
  format: z.literal('nestbox cloud-hypervisor devices 1'),
  /** Cloud Hypervisor restores what the same version has saved. */
  version: z.string(),
  /** Its guest must find the processor again that it saw. */
  processor: z.string(),
  /** What Cloud Hypervisor wrote: config.json and state.json. */
  config: z.string(),
  state: z.string(),
  sha256: z.string(),
});

export interface SavedDevices {
  readonly version: string;
  readonly processor: string;
  readonly config: string;
  readonly state: string;
}

/** What `config.json` must say to fit the machine; what else is in there is Cloud Hypervisor's. */
const savedConfig = z.looseObject({
  cpus: z.looseObject({ boot_vcpus: z.number() }),
  memory: z.looseObject({ size: z.number() }),
  disks: z.array(z.looseObject({ path: z.string(), readonly: z.boolean().optional() })),
  net: z.array(z.looseObject({ tap: z.string() })).nullish(),
});

function digest({ version, processor, config, state }: SavedDevices): string {
  return createHash('sha256')
    .update(JSON.stringify([version, processor, config, state]))
    .digest('hex');
}

export function encodeDevices(devices: SavedDevices): string {
  const whole: z.infer<typeof file> = {
    format: 'nestbox cloud-hypervisor devices 1',
    ...devices,
    sha256: digest(devices),
  };
  return JSON.stringify(whole);
}

/** Throws snapshot_damaged for a file that is not what was written, or was written by another version or on another processor. */
export async function readDevices(
  path: string,
  here: { readonly version: string; readonly processor: string },
): Promise<SavedDevices> {
  const parsed = file.safeParse(parseJson(await readFile(path, 'utf8')));
  if (!parsed.success) throw damagedFile(path, 'it holds no devices');
  const { sha256, format: _, ...devices } = parsed.data;
  if (sha256 !== digest(devices)) throw damagedFile(path, 'its checksum is wrong');
  for (const what of ['version', 'processor'] as const)
    if (devices[what] !== here[what])
      throw new NestboxError(
        'snapshot_damaged',
        `The state ${path} needs the ${what} ${devices[what]} of Cloud Hypervisor's host; here it is ${here[what]}.`,
      );
  return devices;
}

/**
 * The configuration of a restored VM: what was saved, which must fit the machine, without the address of the TAP: it is that of
 * another TAP, and Cloud Hypervisor has no right to set it. Throws snapshot_damaged.
 */
export function configFor(machine: VmMachine, text: string, path: string): string {
  const parsed = savedConfig.safeParse(parseJson(text));
  if (!parsed.success) throw damagedFile(path, 'its configuration is none of a VM');
  const config = parsed.data;
  const { netnsName, tapName } = machine.network;
  const wanted = {
    vcpus: machine.vcpuCount,
    bytes: machine.memoryMib * 2 ** 20,
    disks: machine.disks.map(({ readOnly }, index) => `${diskJailPath(index)} ${readOnly}`),
    taps: netnsName === undefined ? [] : [tapName],
  };
  const found = {
    vcpus: config.cpus.boot_vcpus,
    bytes: config.memory.size,
    disks: config.disks.map((disk) => `${disk.path} ${disk.readonly === true}`),
    taps: (config.net ?? []).map(({ tap }) => tap),
  };
  if (JSON.stringify(wanted) !== JSON.stringify(found))
    throw damagedFile(path, 'it is of a VM that was made otherwise');
  return JSON.stringify({
    ...config,
    ...(config.net ? { net: config.net.map((net) => ({ ...net, host_mac: null })) } : {}),
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
