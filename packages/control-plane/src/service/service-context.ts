import type { KeyedMutex, Logger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import type { BackgroundTasks } from '../background-tasks.ts';
import type { Clock } from '../clock.ts';
import type { HostRegistry } from '../hosts/host-registry.ts';
import type { Leases } from '../leases.ts';
import type { SandboxLists } from '../store/sandbox-lists.ts';
import type { Database } from '../store/schema.ts';
import type { Turns } from '../turns.ts';
import type { AccessTokens } from './access-tokens.ts';
import type { ApiKeys } from './api-keys.ts';
import type { AuditTrail } from './audit-trail.ts';
import type { LastCalls } from './last-calls.ts';
import type { SandboxRoutes } from './sandbox-routes.ts';
import type { SandboxTransitions } from './sandbox-transitions.ts';
import type { WarmIds } from './warm-ids.ts';

/** What every verb works with. Composed once, in start-control-plane.ts. */
export interface ServiceContext {
  readonly db: Kysely<Database>;
  readonly lists: SandboxLists;
  readonly hosts: HostRegistry;
  readonly leases: Leases;
  readonly tokens: AccessTokens;
  readonly keys: ApiKeys;
  readonly audit: AuditTrail;
  readonly routes: SandboxRoutes;
  readonly calls: LastCalls;
  readonly warmIds: WarmIds;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tasks: BackgroundTasks;
  /** Serialises what ends a sandbox, by its id. */
  readonly endings: KeyedMutex;
  /** What pauses and resumes sandboxes, by their ids. */
  readonly transitions: SandboxTransitions;
  /** What must not be done twice at once, at another server either. */
  readonly turns: Turns;
  /** Whose are the things that were there before there were teams. */
  readonly defaultTeamId: string;
  readonly domain: string | undefined;
  readonly maxTimeoutSec: number;
  /** To be called when a sandbox's end was set or moved earlier. */
  readonly endChanged: () => void;
  /** Aborted when the server stops. */
  readonly stopping: AbortSignal;
}
