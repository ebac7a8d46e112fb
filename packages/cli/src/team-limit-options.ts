import type { TeamLimitsBody } from '@nestbox/contract/http';
import { type Command, InvalidArgumentError } from 'commander';
import { wholeNumber } from './option-values.ts';

export interface TeamLimitOptions {
  readonly maxRunning?: Limit;
  readonly maxVcpus?: Limit;
  readonly maxMemoryMib?: Limit;
  readonly maxCreatesPerMinute?: Limit;
}

type Limit = number | 'none';

const MAX_LIMIT = 1_000_000_000;
const MAX_CREATES = 60_000;

export function addLimitOptions(command: Command): Command {
  return command
    .option('--max-running <n>', 'sandboxes that run at a time, or `none`', limit(0, MAX_LIMIT))
    .option('--max-vcpus <n>', 'vCPUs of them together', limit(0, MAX_LIMIT))
    .option('--max-memory-mib <n>', 'memory of them together', limit(0, MAX_LIMIT))
    .option('--max-creates-per-minute <n>', 'how many may be made, copies included', limit(1, MAX_CREATES));
}

/** Only those that were given. */
export function limitsOf(options: TeamLimitOptions): Partial<TeamLimitsBody> {
  const wire = (value: Limit | undefined, name: keyof TeamLimitsBody) =>
    value === undefined ? {} : { [name]: value === 'none' ? null : value };
  return {
    ...wire(options.maxRunning, 'maxRunning'),
    ...wire(options.maxVcpus, 'maxVcpus'),
    ...wire(options.maxMemoryMib, 'maxMemoryMB'),
    ...wire(options.maxCreatesPerMinute, 'maxCreatesPerMinute'),
  };
}

export function describeLimits(limits: TeamLimitsBody): string[] {
  const { maxRunning, maxVcpus, maxMemoryMB, maxCreatesPerMinute } = limits;
  return [maxRunning, maxVcpus, maxMemoryMB, maxCreatesPerMinute].map((value) =>
    value === null ? '-' : String(value),
  );
}

function limit(min: number, max: number): (word: string) => Limit {
  const parse = wholeNumber(min, max);
  return (word) => {
    if (word === 'none') return 'none';
    try {
      return parse(word);
    } catch {
      throw new InvalidArgumentError(`"${word}" is neither \`none\` nor a whole number from ${min} to ${max}.`);
    }
  };
}
