import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSandboxNetworks } from '@nestbox/host-agent/network';
import { hostLayout, machineFiles, readManifestFile, templateFile } from '@nestbox/host-agent/storage';
import { createLogger, type NestboxPaths, resolvePaths } from '@nestbox/kit';
import type { BareSnapshot } from './bare-restore.ts';
import type { Machine } from './machine.ts';

/** The floor's side of what is measured with snapshots: a template's, and one network for all rounds. */
export interface SnapshotStage extends AsyncDisposable {
  readonly snapshot: BareSnapshot;
}

/** An installation beside the measured one, so that its network is nobody else's. */
const FLOOR_STATE_DIR = '/var/lib/nestbox-bench-floor';

export async function openSnapshotStage(
  paths: NestboxPaths,
  templateId: string,
  { accelerator }: Machine,
): Promise<SnapshotStage> {
  const layout = hostLayout(paths);
  const {
    snapshot: name,
    vcpuCount,
    memoryMib,
  } = templateFile.parse(JSON.parse(await readFile(layout.templateFile(templateId), 'utf8')));
  if (name === undefined) throw new Error(`the template ${templateId} has no snapshot`);
  const folder = layout.templateSnapshotDir(templateId, name);
  const { disk } = await readManifestFile(machineFiles(folder).manifest);
  const { instance } = resolvePaths({ NESTBOX_DIR: join(FLOOR_STATE_DIR, String(process.pid)) });
  const networks = await createSandboxNetworks({
    instance,
    poolSize: 0,
    logger: createLogger({ level: 'warn' }),
  });
  const slot = await networks.acquire();
  return {
    snapshot: { folder, layer: disk.layers[0] ?? '', vcpuCount, memoryMib, accelerator, slot },
    async [Symbol.asyncDispose]() {
      await networks.release(slot);
      await networks.close();
    },
  };
}
