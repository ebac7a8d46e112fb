import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BASE_TEMPLATE_ID } from '../base-template.ts';
import { findKernel } from '../guest-kernel.ts';
import { hasTemplate } from '../has-template.ts';
import { makeTemplate } from '../make-template.ts';
import { pathExists } from '../path-exists.ts';
import type { SetupParts, StepContext } from '../setup-parts.ts';
import type { SetupStep } from '../setup-types.ts';

export const TINY_KERNEL = '6.1.0-test_1';

/**
 * Set-up steps that make small things without a network, in the way the real ones do: beside, then renamed.
 * `interrupt` is called in the middle of each step, when something lies in the work folder.
 */
export function tinyParts(interrupt: (step: SetupStep, context: StepContext) => Promise<void>): SetupParts {
  const half = async (step: SetupStep, context: StepContext) => {
    await writeFile(join(context.workDir, `${step}.half`), 'half made');
    await interrupt(step, context);
  };
  return {
    async packages(context) {
      await half('packages', context);
      return { value: undefined, skipped: true };
    },
    async kernel(context) {
      const { layout, workDir } = context;
      const found = await findKernel(layout, TINY_KERNEL);
      if (found !== undefined) return { value: found, skipped: true };
      const result = join(workDir, 'kernel');
      const tree = join(result, 'lib/modules/6.1.0-test');
      await mkdir(tree, { recursive: true });
      await writeFile(join(tree, 'modules.dep'), '');
      await writeFile(join(result, 'vmlinuz'), 'kernel');
      await half('kernel', context);
      await mkdir(layout.kernelsDir, { recursive: true });
      await rename(result, layout.kernelDir(TINY_KERNEL));
      const made = await findKernel(layout, TINY_KERNEL);
      if (made === undefined) throw new Error('the tiny kernel is not there');
      return { value: made, skipped: false };
    },
    async initrd(context, kernel) {
      const path = join(context.layout.kernelDir(kernel.version), 'initrd-0.cpio');
      if (await pathExists(path)) return { value: path, skipped: true };
      await half('initrd', context);
      await rename(join(context.workDir, 'initrd.half'), path);
      return { value: path, skipped: false };
    },
    async agentDisk(context) {
      const disk = { path: context.layout.agentDisk('0'), hash: '0' };
      if (await pathExists(disk.path)) return { value: disk, skipped: true };
      await half('agent-disk', context);
      await mkdir(context.layout.agentDir, { recursive: true });
      await rename(join(context.workDir, 'agent-disk.half'), disk.path);
      return { value: disk, skipped: false };
    },
    async baseTemplate(context) {
      const { layout, workDir } = context;
      if (await hasTemplate(layout, BASE_TEMPLATE_ID)) return { value: undefined, skipped: true };
      const tree = join(workDir, 'base');
      await mkdir(tree);
      await half('base-template', context);
      await makeTemplate({
        layout,
        tree,
        workDir,
        spec: {
          templateId: BASE_TEMPLATE_ID,
          names: ['base'],
          vcpuCount: 1,
          memoryMib: 128,
          diskMib: 64,
          defaultUser: 'root',
          envVars: {},
        },
      });
      return { value: undefined, skipped: false };
    },
  };
}
