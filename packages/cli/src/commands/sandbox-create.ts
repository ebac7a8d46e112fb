import { resolvePaths } from '@nestbox/kit';
import { type Command, InvalidArgumentError } from 'commander';
import { type AutoPause, ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { collectKeyValue, parseSeconds } from '../option-values.ts';

interface CreateOptions {
  readonly template: string;
  readonly timeout: number;
  readonly env?: Record<string, string>;
  readonly metadata?: Record<string, string>;
  readonly internet: boolean;
  readonly autoPause?: boolean;
  readonly autoResume?: boolean;
  readonly memory: boolean;
  readonly json?: boolean;
}

export function addSandboxCreate(sandbox: Command): void {
  sandbox
    .command('create')
    .description('make a sandbox and print its id')
    .option('-t, --template <name>', 'template', 'base')
    .option('--timeout <seconds>', 'the sandbox ends by itself after this time, or is paused', parseSeconds, 300)
    .option('-e, --env <NAME=VALUE>', 'environment variable of every command (repeatable)', collectKeyValue)
    .option('-m, --metadata <NAME=VALUE>', 'note of yours, to find it by (repeatable)', collectKeyValue)
    .option('--no-internet', 'give the sandbox no way to the internet')
    .option('--auto-pause', 'pause the sandbox at its time-out instead of ending it')
    .option('--auto-resume', 'with --auto-pause: the next request to the paused sandbox resumes it')
    .option('--no-memory', 'with --auto-pause: keep the disk alone; a resume boots from it')
    .option('--json', 'print JSON')
    .action(async (options: CreateOptions) => {
      const pause = autoPause(options);
      using guard = new InterruptGuard();
      const created = await new ControlApi(await requireServer(process.env, resolvePaths())).createSandbox(
        {
          templateId: options.template,
          timeoutSec: options.timeout,
          envVars: options.env ?? {},
          metadata: options.metadata ?? {},
          allowInternetAccess: options.internet,
          ...(pause === undefined ? {} : { pause }),
        },
        guard.signal,
      );
      console.log(options.json ? JSON.stringify(created) : created.sandboxID);
    });
}

/** The rules of the server and of the e2b clients, in the words of the command line. */
function autoPause({ autoPause, autoResume, memory }: CreateOptions): AutoPause | undefined {
  if (!autoPause) {
    if (autoResume) throw new InvalidArgumentError('--auto-resume says what becomes of --auto-pause; give that too.');
    if (!memory) throw new InvalidArgumentError('--no-memory says how --auto-pause is done; give that too.');
    return undefined;
  }
  if (autoResume && !memory)
    throw new InvalidArgumentError(
      '--auto-resume needs the memory that --no-memory drops: without it a sandbox is resumed by hand only.',
    );
  return { memory, autoResume: autoResume ?? false };
}
