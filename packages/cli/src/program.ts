import { NESTBOX_VERSION } from '@nestbox/contract';
import { Command } from 'commander';
import { addAudit } from './commands/audit.ts';
import { addDisk } from './commands/disk.ts';
import { addDoctor } from './commands/doctor.ts';
import { addEnv } from './commands/env.ts';
import { addKeyCreate } from './commands/key-create.ts';
import { addKeyList } from './commands/key-list.ts';
import { addKeyRename } from './commands/key-rename.ts';
import { addKeyRevoke } from './commands/key-revoke.ts';
import { addNodeInfo } from './commands/node-info.ts';
import { addNodeList } from './commands/node-list.ts';
import { addNodeStatus } from './commands/node-status.ts';
import { addRun } from './commands/run.ts';
import { addSandboxCreate } from './commands/sandbox-create.ts';
import { addSandboxExec } from './commands/sandbox-exec.ts';
import { addSandboxFork } from './commands/sandbox-fork.ts';
import { addSandboxInfo } from './commands/sandbox-info.ts';
import { addSandboxKill } from './commands/sandbox-kill.ts';
import { addSandboxList } from './commands/sandbox-list.ts';
import { addSandboxLogs } from './commands/sandbox-logs.ts';
import { addSandboxMetrics } from './commands/sandbox-metrics.ts';
import { addSandboxPause } from './commands/sandbox-pause.ts';
import { addSandboxResume } from './commands/sandbox-resume.ts';
import { addSandboxShell } from './commands/sandbox-shell.ts';
import { addSandboxSnapshot } from './commands/sandbox-snapshot.ts';
import { addSetup } from './commands/setup.ts';
import { addSnapshotDelete } from './commands/snapshot-delete.ts';
import { addSnapshotList } from './commands/snapshot-list.ts';
import { addTeamCreate } from './commands/team-create.ts';
import { addTeamDelete } from './commands/team-delete.ts';
import { addTeamLimit } from './commands/team-limit.ts';
import { addTeamList } from './commands/team-list.ts';
import { addTeamRename } from './commands/team-rename.ts';
import { addTemplateDelete } from './commands/template-delete.ts';
import { addTemplateList } from './commands/template-list.ts';
import { addTrace } from './commands/trace.ts';
import { addTrust } from './commands/trust.ts';
import { addUp } from './commands/up.ts';
import { addVersion } from './commands/version.ts';

/** Called by a command whose exit code is not 0 though nothing failed. */
export type SetExitCode = (exitCode: number) => void;

const EXIT_CODES = `
Exit codes: 0 fine, 1 something failed, 2 wrong words on the command line, 128+n ended by signal n.
run, sandbox exec and sandbox shell answer the exit code of their command, 124 when its time is over, and 125 when
Nestbox itself failed.

Environment: NESTBOX_DIR (state folder, /var/lib/nestbox); E2B_API_URL, E2B_SANDBOX_URL, E2B_API_KEY
(use this server); E2B_DOMAIN, E2B_API_KEY (likewise, over TLS); NESTBOX_ADMIN_TOKEN (for key, team, node, audit and disk --verify).`;

/** The whole command line. Errors leave as exceptions; main.ts prints them. */
export function buildProgram(setExitCode: SetExitCode): Command {
  const program = new Command('nestbox')
    .description('MicroVM sandboxes for AI agents, on your own machines.')
    .version(NESTBOX_VERSION, '-V, --version')
    .exitOverride()
    .configureOutput({
      outputError: () => {
        // main.ts prints errors, as text or as JSON.
      },
    })
    .enablePositionalOptions()
    .addHelpText('after', EXIT_CODES);

  addUp(program);
  addEnv(program);
  addTrust(program);
  addDoctor(program, setExitCode);
  addSetup(program);
  addRun(program, setExitCode);

  const sandbox = program
    .command('sandbox')
    .description('make, look at, use, pause, copy and end sandboxes of the running server');
  addSandboxCreate(sandbox);
  addSandboxList(sandbox);
  addSandboxInfo(sandbox);
  addSandboxExec(sandbox, setExitCode);
  addSandboxShell(sandbox, setExitCode);
  addSandboxPause(sandbox);
  addSandboxResume(sandbox);
  addSandboxFork(sandbox);
  addSandboxSnapshot(sandbox);
  addSandboxLogs(sandbox);
  addSandboxMetrics(sandbox);
  addSandboxKill(sandbox);

  const snapshot = program.command('snapshot').description('sandboxes kept as they were, to make new ones from');
  addSnapshotList(snapshot);
  addSnapshotDelete(snapshot);

  const template = program.command('template').description('templates that sandboxes are made from');
  addTemplateList(template);
  addTemplateDelete(template);

  const key = program.command('key').description('API keys of teams (for administrators)');
  addKeyCreate(key);
  addKeyList(key);
  addKeyRename(key);
  addKeyRevoke(key);

  const team = program.command('team').description('teams and their limits (for administrators)');
  addTeamCreate(team);
  addTeamList(team);
  addTeamLimit(team);
  addTeamRename(team);
  addTeamDelete(team);

  const node = program.command('node').description('the hosts that sandboxes run on (for administrators)');
  addNodeList(node);
  addNodeInfo(node);
  addNodeStatus(node);

  addAudit(program);
  addDisk(program, setExitCode);
  addTrace(program);
  addVersion(program);
  return program;
}
