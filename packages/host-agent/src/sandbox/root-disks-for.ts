import { DiskLayers } from '../storage/disk-layers.ts';
import { takesLayers, type VmDriver } from '../vmm/driver.ts';
import { copiedDisks } from './copied-disks.ts';
import { layeredDisks } from './layered-disks.ts';
import type { RootDisks } from './root-disks.ts';

/** Layers where the driver takes them: a copy of those costs nothing on any file system. `layerWorkDir`: for `DiskLayers`. */
export function rootDisksFor(driver: VmDriver, layerWorkDir: string): RootDisks {
  return takesLayers(driver) ? layeredDisks(driver, new DiskLayers(layerWorkDir)) : copiedDisks(driver.name);
}
