import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncFile } from '@nestbox/kit';
import type { HostLayout } from '../storage/layout.ts';
import { type AgentDisk, agentDiskFingerprint, makeAgentDisk } from './agent-disk.ts';
import { allocatedMib } from './allocated-size.ts';
import { BASE_TEMPLATE_ID, makeBaseTemplate } from './base-template.ts';
import { currentKernelPackage, fetchKernel, findKernel, type GuestKernel, kernelVersion } from './guest-kernel.ts';
import { hasTemplate } from './has-template.ts';
import { missingPackages } from './host-packages.ts';
import { buildInitrd, initrdHash } from './initrd.ts';
import { installPackages } from './install-packages.ts';
import { nodeBinary, npmFolder } from './node-binary.ts';
import { pathExists } from './path-exists.ts';
import { readCurrentImages, readSetupRecord, writeSetupRecord } from './setup-record.ts';
import type { StepOutcome } from './setup-steps.ts';
import type { AgentBundle } from './setup-types.ts';

/** What every step gets. */
export interface StepContext {
  readonly layout: HostLayout;
  /** Empty at the start of the set-up, removed at its end; on the file system of the state folder. */
  readonly workDir: string;
  readonly force: boolean;
  readonly buildAgentBundle: (outDir: string) => Promise<AgentBundle>;
  readonly agentSources: readonly string[];
  readonly onDetail: (detail: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * The steps' work. Each looks whether its result is there and right, else builds it in the work folder and renames it
 * into place last; so it can be ended at any moment and done again.
 */
export interface SetupParts {
  packages(context: StepContext): Promise<StepOutcome<void>>;
  kernel(context: StepContext): Promise<StepOutcome<GuestKernel>>;
  initrd(context: StepContext, kernel: GuestKernel): Promise<StepOutcome<string>>;
  agentDisk(context: StepContext, kernel: GuestKernel): Promise<StepOutcome<AgentDisk>>;
  baseTemplate(context: StepContext): Promise<StepOutcome<void>>;
}

export const debianParts: SetupParts = {
  async packages({ onDetail, signal }) {
    const missing = await missingPackages();
    if (missing.length === 0) return { value: undefined, skipped: true };
    await installPackages(missing, { onDetail, ...(signal && { signal }) });
    return { value: undefined, skipped: false, detail: `installed ${missing.map(({ name }) => name).join(', ')}` };
  },

  /** A kernel that is there stays until `force`: which one is current is only known to apt, and asking takes a second. */
  async kernel({ layout, workDir, force, onDetail, signal }) {
    const images = await readCurrentImages(layout);
    if (!force && images !== undefined) {
      const current = await findKernel(layout, images.kernelVersion);
      if (current !== undefined) return { value: current, skipped: true, detail: current.version };
    }
    const options = { onOutput: onDetail, ...(signal && { signal }) };
    const wanted = await currentKernelPackage(options);
    const found = force ? undefined : await findKernel(layout, kernelVersion(wanted));
    if (found !== undefined) return { value: found, skipped: true, detail: found.version };
    onDetail(`fetching ${wanted.name} ${wanted.debianVersion}`);
    const fetched = await fetchKernel(wanted, { layout, workDir, ...options });
    return { value: fetched, skipped: false, detail: fetched.version };
  },

  async initrd({ layout, workDir }, kernel) {
    const content = await buildInitrd(kernel.moduleTree);
    const name = `initrd-${initrdHash(content)}.cpio`;
    const path = join(layout.kernelDir(kernel.version), name);
    if (await pathExists(path)) return { value: path, skipped: true };
    const temporary = join(workDir, name);
    await writeFile(temporary, content, { mode: 0o444 });
    await syncFile(temporary);
    await rename(temporary, path);
    await syncFile(dirname(path));
    return { value: path, skipped: false, detail: `${(content.length / 2 ** 20).toFixed(1)} MiB` };
  },

  async agentDisk({ layout, workDir, force, agentSources, buildAgentBundle, onDetail, signal }, kernel) {
    const nodePath = nodeBinary();
    const fingerprint = await agentDiskFingerprint(agentSources, nodePath, kernel.version);
    const record = await readSetupRecord(layout);
    if (!force && record?.agentFingerprint === fingerprint) {
      const path = layout.agentDisk(record.agentDiskHash);
      if (await pathExists(path)) return { value: { path, hash: record.agentDiskHash }, skipped: true };
    }
    onDetail('bundling the guest agent');
    const outDir = join(workDir, 'agent');
    await mkdir(outDir);
    const bundle = await buildAgentBundle(outDir);
    signal?.throwIfAborted();
    onDetail('writing the disk image');
    const disk = await makeAgentDisk({
      layout,
      workDir,
      nodePath,
      bundle,
      moduleTree: kernel.moduleTree,
      kernelRelease: kernel.release,
      ...(signal && { signal }),
    });
    await writeSetupRecord(layout, { agentDiskHash: disk.hash, agentFingerprint: fingerprint });
    return { value: disk, skipped: false, detail: `${await allocatedMib(disk.path)} MiB, ${disk.hash.slice(0, 12)}` };
  },

  async baseTemplate({ layout, workDir, force, onDetail, signal }) {
    if (!force && (await hasTemplate(layout, BASE_TEMPLATE_ID))) return { value: undefined, skipped: true };
    // apt's downloads run as the user _apt, who must be able to reach the tree.
    await chmod(workDir, 0o711);
    await makeBaseTemplate({
      layout,
      workDir,
      // What is in its place, if anything, is damaged or to be made anew.
      replace: true,
      nodePath: nodeBinary(),
      npmDir: npmFolder(),
      onDetail,
      ...(signal && { signal }),
    });
    const size = await allocatedMib(layout.templateRootfs(BASE_TEMPLATE_ID));
    return { value: undefined, skipped: false, detail: `${size} MiB` };
  },
};
