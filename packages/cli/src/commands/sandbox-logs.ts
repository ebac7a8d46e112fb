import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import type { SandboxLogEntry } from '@nestbox/contract/http';
import { resolvePaths } from '@nestbox/kit';
import { type Command, Option } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { wholeNumber } from '../option-values.ts';
import { formatLogLine } from '../terminal/log-line.ts';

const MOST_LINES = 1000;
const FOLLOW_INTERVAL_MS = 1000;

interface LogsOptions {
  readonly lines: number;
  readonly follow?: boolean;
  readonly level?: string;
  readonly search?: string;
  readonly json?: boolean;
}

export function addSandboxLogs(sandbox: Command): void {
  sandbox
    .command('logs')
    .description('show the log of a sandbox: its commands, its console, what happened to it')
    .argument('<id>', 'sandbox id; also of one that ended not long ago')
    .option('-n, --lines <n>', 'how many lines, the newest ones', wholeNumber(0, MOST_LINES), 100)
    .option('-f, --follow', 'go on with what comes, until the sandbox has ended')
    .addOption(new Option('--level <level>', 'leave out what is below').choices(['debug', 'info', 'warn', 'error']))
    .option('--search <text>', 'leave out lines without this text')
    .option('--json', 'print JSON, a line each')
    .action(async (sandboxId: string, options: LogsOptions) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const { level, search } = options;
      const show = (entries: readonly SandboxLogEntry[]) => {
        for (const entry of entries) console.log(options.json ? JSON.stringify(entry) : formatLogLine(entry));
      };
      const latest = { limit: Math.max(1, options.lines), backward: true, level, search };
      const newest = await api.getLogs(sandboxId, latest, guard.signal);
      show(options.lines === 0 ? [] : newest);
      if (options.follow !== true) return;
      let cursorMs = nextCursor(newest) ?? 0;
      for (;;) {
        // Asked first: what it wrote until its end is read after that.
        const ended = await hasEnded(api, sandboxId, guard.signal);
        const entries = await api.getLogs(sandboxId, { cursorMs, limit: MOST_LINES, level, search }, guard.signal);
        show(entries);
        cursorMs = nextCursor(entries) ?? cursorMs;
        if (ended) return;
        if (entries.length < MOST_LINES) await delay(FOLLOW_INTERVAL_MS, undefined, { signal: guard.signal });
      }
    });
}

function nextCursor(entries: readonly SandboxLogEntry[]): number | undefined {
  const last = entries.at(-1);
  return last && Date.parse(last.timestamp) + 1;
}

async function hasEnded(api: ControlApi, sandboxId: string, signal: AbortSignal): Promise<boolean> {
  try {
    await api.getSandbox(sandboxId, signal);
    return false;
  } catch (error) {
    if (error instanceof NestboxError && error.code === 'sandbox_not_found') return true;
    throw error;
  }
}
