import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** The parts of Debian's module tree that an initial RAM disk is made from, with files that only say their names. */
const MODULES: Readonly<Record<string, readonly string[]>> = {
  'kernel/drivers/virtio/virtio_ring.ko': [],
  'kernel/drivers/virtio/virtio.ko': ['kernel/drivers/virtio/virtio_ring.ko'],
  'kernel/drivers/virtio/virtio_pci_modern_dev.ko': [],
  'kernel/drivers/virtio/virtio_pci.ko': [
    'kernel/drivers/virtio/virtio_pci_modern_dev.ko',
    'kernel/drivers/virtio/virtio.ko',
    'kernel/drivers/virtio/virtio_ring.ko',
  ],
  'kernel/drivers/virtio/virtio_mmio.ko': ['kernel/drivers/virtio/virtio.ko', 'kernel/drivers/virtio/virtio_ring.ko'],
  'kernel/drivers/block/virtio_blk.ko': ['kernel/drivers/virtio/virtio.ko', 'kernel/drivers/virtio/virtio_ring.ko'],
  'kernel/net/core/failover.ko': [],
  'kernel/drivers/net/net_failover.ko': ['kernel/net/core/failover.ko'],
  'kernel/drivers/net/virtio_net.ko': [
    'kernel/drivers/net/net_failover.ko',
    'kernel/net/core/failover.ko',
    'kernel/drivers/virtio/virtio.ko',
    'kernel/drivers/virtio/virtio_ring.ko',
  ],
};

/** Writes such a tree (`lib/modules/<release>`) into a folder. `pack` turns a file's content into what is written. */
export async function writeModuleTree(folder: string, pack = (content: Buffer): Uint8Array => content): Promise<void> {
  for (const path of Object.keys(MODULES)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), pack(Buffer.from(path)));
  }
  const lines = Object.entries(MODULES).map(([path, needs]) => `${path}: ${needs.join(' ')}`);
  await writeFile(join(folder, 'modules.dep'), `${lines.join('\n')}\n`);
  await writeFile(join(folder, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\n');
}
