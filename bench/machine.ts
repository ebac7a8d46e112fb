import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { NESTBOX_VERSION } from '@nestbox/contract';
import { hostLayout } from '@nestbox/host-agent/storage';
import { selectDriver } from '@nestbox/host-agent/vmm';
import { createLogger, type NestboxPaths } from '@nestbox/kit';

/** What the figures were measured on. */
export interface Machine {
  readonly accelerator: 'kvm' | 'tcg' | 'none';
  /** Rows of the report: name and value. */
  readonly facts: readonly (readonly [string, string])[];
}

export async function describeMachine(paths: NestboxPaths): Promise<Machine> {
  const driver = await selectDriver('auto', {
    runRoot: paths.runDir,
    instance: paths.instance,
    cacheDir: hostLayout(paths).cacheDir,
    logger: createLogger({ level: 'silent' }),
  });
  try {
    const { vmm, version, accelerator, reason } = await driver.describe();
    return {
      accelerator,
      facts: [
        ['Date', new Date().toISOString().slice(0, 10)],
        ['Nestbox', `${NESTBOX_VERSION}, Node ${process.versions.node}`],
        ['Processor', `${availableParallelism()} × ${cpus()[0]?.model.trim() ?? 'unknown'}`],
        ['Memory', `${Math.round(totalmem() / 2 ** 30)} GiB`],
        ['System', `${distribution()}, kernel ${release()}`],
        ['Virtual machines', `${vmm} ${version}, ${accelerator.toUpperCase()} – ${reason}`],
      ],
    };
  } finally {
    await driver.close();
  }
}

function distribution(): string {
  const text = readFileSync('/etc/os-release', 'utf8');
  return /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(text)?.[1] ?? 'Linux';
}
