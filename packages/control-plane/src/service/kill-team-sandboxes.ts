import { listSandboxIdsOfTeam } from '../store/sandbox-list-repository.ts';
import { endSandbox } from './end-sandbox.ts';
import { requireTeam } from './manage-teams.ts';
import type { TeamContext } from './team-context.ts';

export interface KillOutcome {
  readonly killedCount: number;
  /** Their hosts did not say that they are gone; they are tried again. */
  readonly failedCount: number;
}

/** Ends whatever a team has, paused ones too. Throws `team_not_found`. */
export async function killTeamSandboxes(context: TeamContext): Promise<KillOutcome> {
  await requireTeam(context, context.scope.teamId);
  const ids = await listSandboxIdsOfTeam(context.db, context.scope);
  const outcomes = await Promise.allSettled(ids.map((id) => endSandbox(context, id, 'killed')));
  for (const outcome of outcomes)
    if (outcome.status === 'rejected')
      context.logger.warn({ err: outcome.reason, ...context.scope }, 'A sandbox of a team could not be ended yet');
  return {
    killedCount: outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value).length,
    failedCount: outcomes.filter((outcome) => outcome.status === 'rejected').length,
  };
}
