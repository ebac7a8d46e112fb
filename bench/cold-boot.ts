import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BASE_TEMPLATE_ID, checkSetup } from '@nestbox/host-agent/image';
import { hostLayout, templateFile } from '@nestbox/host-agent/storage';
import type { NestboxPaths } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import type { TestServer } from '../test/support/server.ts';
import { bootBareQemu } from './bare-qemu.ts';
import type { Machine } from './machine.ts';
import { describeSeries, type Measure } from './measure.ts';
import { interleave, timed } from './series.ts';

export async function measureColdBoot(
  server: TestServer,
  paths: NestboxPaths,
  { accelerator }: Machine,
  rounds: number,
): Promise<Measure> {
  const { images } = await checkSetup(paths);
  if (images === undefined) throw new Error('not set up');
  const templateDir = hostLayout(paths).templateDir(BASE_TEMPLATE_ID);
  const template = templateFile.parse(JSON.parse(await readFile(join(templateDir, 'template.json'), 'utf8')));
  const bare = {
    ...images,
    rootDiskPath: join(templateDir, 'rootfs.ext4'),
    vcpuCount: template.vcpuCount,
    memoryMib: template.memoryMib,
    accelerator,
  };
  const create = async () => {
    let sandbox: Sandbox | undefined;
    const elapsedMs = await timed(async () => {
      sandbox = await Sandbox.create({ ...server.connection, timeoutMs: 120_000 });
    });
    await sandbox?.kill();
    return elapsedMs;
  };
  const { ours, floor } = await interleave(rounds, create, () => bootBareQemu(bare));
  return {
    title: 'Cold boot to agent ready',
    ours: describeSeries(ours, 'ms'),
    floor: describeSeries(floor, 'ms'),
    judged: ours.median / floor.median,
    limit: { kind: 'at most', value: 1.25, unit: '×' },
    method: `\`Sandbox.create()\` of the e2b client until it returns (API, network slot, overlay, limits, boot, settings of the agent) against the same kernel, initial RAM disk, root disk and agent disk (${template.vcpuCount} vCPUs, ${template.memoryMib} MiB) started by a bare QEMU command line with user networking, until the agent answers \`/health\`.`,
  };
}
