import { join } from 'node:path';
import type { NestboxPaths } from '@nestbox/kit';

/** Every path below the state and run folders, in one place. docs/on-disk-layout.md describes each. */
export function hostLayout(paths: NestboxPaths) {
  const { stateDir, runDir } = paths;
  return {
    /** One file for each host agent that has, or wants, this state folder (state-lock.ts). */
    hostAgentLockDir: join(stateDir, 'host-agent.lock'),
    /** Which host this is, whatever its machine and address (host-id.ts). */
    hostId: join(stateDir, 'host-id'),
    /** Kernel, its modules and initial RAM disks of one kernel version. */
    kernelDir: (version: string) => join(stateDir, 'kernels', version),
    kernelsDir: join(stateDir, 'kernels'),
    /** The read-only disk with Node, libraries and the guest agent; named by a hash of its content. */
    agentDisk: (hash: string) => join(stateDir, 'agent', `${hash}.ext4`),
    agentDir: join(stateDir, 'agent'),
    /** Says which kernel and agent disk new VMs use. Written last by set-up, so its presence means "complete". */
    currentImages: join(stateDir, 'images.json'),
    templatesDir: join(stateDir, 'templates'),
    templateDir: (templateId: string) => join(stateDir, 'templates', templateId),
    templateFile: (templateId: string) => join(stateDir, 'templates', templateId, 'template.json'),
    templateRootfs: (templateId: string) => join(stateDir, 'templates', templateId, 'rootfs.ext4'),
    /** A machine folder with the template's state; template.json names the one that counts. */
    templateSnapshotDir: (templateId: string, name: string) => join(stateDir, 'templates', templateId, name),
    /** Machine folders on their way: of a fork until its copies run, of a snapshot until its template is complete. */
    transitDir: join(stateDir, 'transit'),
    sandboxesDir: join(stateDir, 'sandboxes'),
    sandboxDir: (sandboxId: string) => join(stateDir, 'sandboxes', sandboxId),
    sandboxRecord: (sandboxId: string) => join(stateDir, 'sandboxes', sandboxId, 'sandbox.json'),
    /** The saved state of a paused sandbox: pages, devices, manifest. */
    sandboxPauseDir: (sandboxId: string) => join(stateDir, 'sandboxes', sandboxId, 'pause'),
    /** Such a state while it is written. */
    sandboxPauseDraft: (sandboxId: string) => join(stateDir, 'sandboxes', sandboxId, 'pause.new'),
    sandboxConsole: (sandboxId: string) => join(stateDir, 'sandboxes', sandboxId, 'console.log'),
    telemetriesDir: join(stateDir, 'telemetry'),
    /** Log and samples of a sandbox; stays for a while when the sandbox has ended. */
    telemetryDir: (sandboxId: string) => join(stateDir, 'telemetry', sandboxId),
    sandboxLog: (sandboxId: string) => join(stateDir, 'telemetry', sandboxId, 'log.ndjson'),
    sandboxOldLog: (sandboxId: string) => join(stateDir, 'telemetry', sandboxId, 'log.1.ndjson'),
    sandboxMetrics: (sandboxId: string) => join(stateDir, 'telemetry', sandboxId, 'metrics.bin'),
    /** When the sandbox ended. */
    telemetryEnd: (sandboxId: string) => join(stateDir, 'telemetry', sandboxId, 'ended'),
    sandboxRunDir: (sandboxId: string) => join(runDir, sandboxId),
    /** Written at the end of each round in which all that rests here was read. */
    scrubTime: join(stateDir, 'scrubbed'),
    cacheDir: join(stateDir, 'cache'),
    /** Where an empty disk layer is made for the first time; what is in it at a start is left of a crash. */
    layerWorkDir: join(stateDir, 'cache', 'layers'),
    /** Held (flock) by the one set-up that may run. Never removed. */
    setupLock: join(stateDir, 'setup.lock'),
    /** Where set-up builds; whatever is in it when no set-up runs is left of one that was interrupted. */
    setupWorkDir: join(stateDir, 'setup-work'),
    /** What the current images were made from, so that the next set-up knows in milliseconds what is still right. */
    setupRecord: join(stateDir, 'setup.json'),
  } as const;
}

export type HostLayout = ReturnType<typeof hostLayout>;
