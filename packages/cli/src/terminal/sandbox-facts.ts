import type { SandboxActivity, SandboxDetail } from '@nestbox/contract/http';
import { formatSeconds } from './format-seconds.ts';

/** What is known of a sandbox as pairs of field and value: first how it is and what will become of it, then the rest. */
export function sandboxFacts(
  detail: Omit<SandboxDetail, 'envdAccessToken'>,
  activity: SandboxActivity | undefined,
  nowMs: number,
): (readonly [string, string])[] {
  const { sandboxID, state, lifecycle, ...rest } = detail;
  return [
    ['sandboxID', sandboxID],
    ['state', state],
    ...(lifecycle === undefined ? [] : [['lifecycle', lifecycleWords(lifecycle)] as const]),
    ...(activity === undefined ? [] : [['lastActivity', activityWords(activity, nowMs)] as const]),
    ...Object.entries(rest)
      // The time-out of a paused sandbox is over; the next one begins when it is resumed.
      .filter(([name]) => !(name === 'endAt' && state === 'paused'))
      .map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)] as const),
  ];
}

function lifecycleWords({ onTimeout, autoResume }: NonNullable<SandboxDetail['lifecycle']>): string {
  const end = onTimeout === 'pause' ? 'is paused at its time-out' : 'ends at its time-out';
  return autoResume ? `${end}; the next request resumes it` : end;
}

function activityWords({ lastActivityAt, runningCommands, openConnections }: SandboxActivity, nowMs: number): string {
  const ago = formatSeconds(Math.max(0, nowMs - Date.parse(lastActivityAt)));
  return (
    `${lastActivityAt} (${ago} ago); commands that run: ${runningCommands}, ` + `open connections: ${openConnections}`
  );
}
