import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findApiDescription } from './api-description.ts';
import { type JournalEntry, journalEntry, type StandInPlan } from './plan.ts';

/** A program that can be started in place of the VMM. */
export interface StandIn extends Disposable {
  readonly folder: string;
  readonly binary: string;
  /** What it shall do from now on. */
  plan(changes: Partial<StandInPlan>): void;
  journal(): readonly JournalEntry[];
}

export function makeStandIn(vmm: StandInPlan['vmm'], version: string): StandIn {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-standin-'));
  const planPath = join(folder, 'plan.json');
  const journalPath = join(folder, 'journal');
  const binary = join(folder, vmm);
  const script = fileURLToPath(new URL('./stand-in.ts', import.meta.url));
  writeFileSync(binary, `#!/bin/sh\nexec '${process.execPath}' '${script}' '${planPath}' "$@"\n`);
  chmodSync(binary, 0o755);
  writeFileSync(journalPath, '');
  const descriptionPath = findApiDescription(vmm);
  let current: StandInPlan = {
    vmm,
    version,
    journalPath,
    ...(descriptionPath === undefined ? {} : { descriptionPath }),
  };
  const plan = (changes: Partial<StandInPlan>) => {
    current = { ...current, ...changes };
    writeFileSync(planPath, JSON.stringify(current));
  };
  plan({});
  return {
    folder,
    binary,
    plan,
    journal: () =>
      readFileSync(journalPath, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => journalEntry.parse(JSON.parse(line))),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
