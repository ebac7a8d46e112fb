import { machine } from 'node:os';

/** What kind of processor a machine has, in the kernel's words; empty what it does not say. */
export interface Processor {
  readonly family: string;
  readonly model: string;
  readonly modelName: string;
  /** As `uname -m` has it. */
  readonly architecture: string;
}

/** Reads the first processor of /proc/cpuinfo. Source: proc_cpuinfo(5). */
export function parseProcessor(cpuinfo: string, architecture = machine()): Processor {
  const [first = ''] = cpuinfo.split('\n\n', 1);
  const fields = new Map(
    first.split('\n').map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
    }),
  );
  return {
    family: fields.get('cpu family') ?? '',
    model: fields.get('model') ?? '',
    modelName: fields.get('model name') ?? '',
    architecture,
  };
}
