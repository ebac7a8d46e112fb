import { NestboxError } from '@nestbox/contract';
import type { SandboxActivity } from '@nestbox/contract/http';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { sandboxFacts } from '../terminal/sandbox-facts.ts';
import { formatTable } from '../terminal/table.ts';

export function addSandboxInfo(sandbox: Command): void {
  sandbox
    .command('info')
    .description('show all that is known of a sandbox')
    .argument('<id>', 'sandbox id')
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const { envdAccessToken: _secret, ...detail } = await api.getSandbox(sandboxId, guard.signal);
      const activity = await activityOf(api, sandboxId, guard.signal);
      if (options.json) console.log(JSON.stringify({ ...detail, activity: activity ?? null }));
      else console.log(formatTable(['FIELD', 'VALUE'], sandboxFacts(detail, activity, Date.now())));
    });
}

/** Undefined when the server cannot tell: the sandbox is paused or its host away, or the server knows no such question. */
async function activityOf(
  api: ControlApi,
  sandboxId: string,
  signal: AbortSignal,
): Promise<SandboxActivity | undefined> {
  try {
    return await api.getActivity(sandboxId, signal);
  } catch (error) {
    if (error instanceof NestboxError && error.code !== 'internal') return undefined;
    throw error;
  }
}
