import type { VmSpec } from '../driver.ts';

/** What a VM is made of, with paths as its manager sees them in its jail. */
export interface ApiMachine {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly kernelArgs: readonly string[];
  readonly vcpuCount: number;
  readonly memoryMib: number;
  /** Raw images. In guest order: the first is /dev/vda. */
  readonly disks: readonly { readonly path: string; readonly readOnly: boolean }[];
  /** Undefined: no network device. */
  readonly network: { readonly tapName: string; readonly guestMac: string } | undefined;
}

/** Where a VM manager finds the files of a machine in its jail: the same in every VM. */
export interface JailPlaces {
  readonly kernel: string;
  readonly initrd: string;
  readonly disk: (index: number) => string;
}

export function apiMachine(spec: VmSpec, places: JailPlaces): ApiMachine {
  return {
    kernelPath: places.kernel,
    initrdPath: places.initrd,
    kernelArgs: spec.kernelArgs,
    vcpuCount: spec.vcpuCount,
    memoryMib: spec.memoryMib,
    disks: spec.disks.map(({ readOnly }, index) => ({ path: places.disk(index), readOnly })),
    network: spec.network.netnsName === undefined ? undefined : spec.network,
  };
}
