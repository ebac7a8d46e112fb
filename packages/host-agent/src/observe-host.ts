import { statfs } from 'node:fs/promises';
import { Gauge, type Registry } from '@nestbox/kit/metrics';
import type { SandboxManager } from './sandbox/sandbox.ts';
import type { VmDriver } from './vmm/driver.ts';

interface Observed {
  readonly manager: SandboxManager;
  readonly driver: VmDriver;
  readonly stateDir: string;
}

/** What one host has at the moment of a scrape. */
export function observeHost({ manager, driver, stateDir }: Observed, registry: Registry): void {
  new Gauge({
    name: 'nestbox_host_sandboxes',
    help: 'Sandboxes of this host, by state',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { state } of manager.list()) this.inc({ state });
    },
  });
  new Gauge({
    name: 'nestbox_host_guest_memory_bytes',
    help: 'Memory of the guests that run on this host',
    registers: [registry],
    collect() {
      const running = manager.list().filter(({ state }) => state !== 'paused');
      this.set(running.reduce((sum, { memoryMib }) => sum + memoryMib, 0) * 2 ** 20);
    },
  });
  new Gauge({
    name: 'nestbox_host_boot_retries',
    help: 'Boots that did not come on and were begun anew, since this host agent began',
    registers: [registry],
    collect() {
      this.set(driver.bootRetries);
    },
  });
  new Gauge({
    name: 'nestbox_host_disk_bytes',
    help: 'Disk under the state folder',
    labelNames: ['kind'],
    registers: [registry],
    async collect() {
      const { bavail, blocks, bsize } = await statfs(stateDir);
      this.set({ kind: 'free' }, bavail * bsize);
      this.set({ kind: 'total' }, blocks * bsize);
    },
  });
}
