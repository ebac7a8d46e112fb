import { chmodSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { VmDriver } from '../driver.ts';
import { createFirecrackerDriver, type FirecrackerDriverOptions } from '../firecracker/firecracker-driver.ts';
import { sameMount } from '../jail/jail.ts';
import { STAND_IN, type StandInDriver, standInOptions } from './stand-in-bench.ts';

const VERSION = '1.16.0';
const STAND_IN_JAILER = join(dirname(STAND_IN), 'stand-in-jailer.ts');
/** What the real one, which is linked statically, does not need. */
const LIBRARIES = ['/lib', '/lib64', '/usr/lib'];

/** The driver with the stand-in in place of Firecracker, in bubblewrap's jail. */
export function createStandInFirecracker(
  standIn: StandInDriver,
  options: Partial<FirecrackerDriverOptions> = {},
): VmDriver {
  return createFirecrackerDriver({ ...standInOptions('firecracker', standIn), ...options });
}

/** The same in the jail of a stand-in for Firecracker's jailer. */
export function createJailedStandIn(standIn: StandInDriver, options: Partial<FirecrackerDriverOptions> = {}): VmDriver {
  const usual = standInOptions('firecracker', standIn);
  const { firecracker, jailer } = writeJailedPrograms(standIn.planPath);
  const mounts = [
    ...(typeof usual.program === 'object' ? usual.program.mounts : []),
    ...LIBRARIES.map((path) => sameMount(path)),
  ];
  return createFirecrackerDriver({ ...usual, program: { command: [firecracker], mounts }, jailer, ...options });
}

/** Programs of one file each, since the jailer copies it: scripts of Node's, which find the rest where the mounts put it. */
function writeJailedPrograms(planPath: string): { readonly firecracker: string; readonly jailer: string } {
  const folder = dirname(planPath);
  return {
    firecracker: writeProgram(join(folder, 'firecracker'), STAND_IN, planPath),
    jailer: writeStandInJailer(folder),
  };
}

/** A program in place of the jailer; its path. */
export function writeStandInJailer(folder: string): string {
  return writeProgram(join(folder, 'jailer'), STAND_IN_JAILER, VERSION);
}

function writeProgram(path: string, script: string, firstArgument: string): string {
  const start = `process.argv.splice(1, 1, ${JSON.stringify(script)}, ${JSON.stringify(firstArgument)});`;
  writeFileSync(path, `#!${process.execPath}\n${start}\nimport(${JSON.stringify(script)});\n`);
  chmodSync(path, 0o755);
  return path;
}
