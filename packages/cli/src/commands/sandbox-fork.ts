import { NestboxError } from '@nestbox/contract';
import { MAX_FORK_COUNT, type SandboxForkResult } from '@nestbox/contract/http';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { errorFromBody } from '../client/api-connection.ts';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { parseSeconds, wholeNumber } from '../option-values.ts';
import { formatTable } from '../terminal/table.ts';

interface ForkOptions {
  readonly count: number;
  readonly timeout: number;
  readonly json?: boolean;
}

export function addSandboxFork(sandbox: Command): void {
  sandbox
    .command('fork')
    .description('make copies of a running sandbox, memory and all; it goes on itself')
    .argument('<id>', 'sandbox id')
    .option('--count <n>', 'how many copies', wholeNumber(1, MAX_FORK_COUNT), 1)
    .option('--timeout <seconds>', 'each copy ends by itself after this time', parseSeconds, 300)
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: ForkOptions) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const outcomes = await api.forkSandbox(
        sandboxId,
        { count: options.count, timeoutSec: options.timeout },
        guard.signal,
      );
      if (options.json) console.log(JSON.stringify(outcomes));
      else console.log(formatTable(['COPY', 'SANDBOX', 'STATE'], outcomes.map(row)));
      requireAll(outcomes);
    });
}

function row(outcome: SandboxForkResult, index: number): string[] {
  const copy = String(index + 1);
  if ('sandbox' in outcome) return [copy, outcome.sandbox.sandboxID, 'running'];
  return [copy, '-', `failed [${errorFromBody(outcome.error).code}]`];
}

/** Throws NestboxError with the first failure's code and each different reason when a copy was not made. */
function requireAll(outcomes: readonly SandboxForkResult[]): void {
  const failures = outcomes.filter((outcome) => 'error' in outcome).map(({ error }) => errorFromBody(error));
  const [first] = failures;
  if (first === undefined) return;
  const reasons = [...new Set(failures.map(({ message }) => message))];
  throw new NestboxError(
    first.code,
    `${failures.length} of ${outcomes.length} copies could not be made: ${reasons.join('\n')}`,
  );
}
