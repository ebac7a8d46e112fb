import type { KeyedMutex, Logger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import type { BackgroundTasks } from '../background-tasks.ts';
import type { Clock } from '../clock.ts';
import type { HostRegistry } from '../hosts/host-registry.ts';
import type { Database } from '../store/schema.ts';
import type { AccessTokens } from './access-tokens.ts';
import type { SandboxRoutes } from './sandbox-routes.ts';

/** What every verb works with. Composed once, in start-control-plane.ts. */
export interface ServiceContext {
  readonly db: Kysely<Database>;
  readonly hosts: HostRegistry;
  readonly tokens: AccessTokens;
  readonly routes: SandboxRoutes;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tasks: BackgroundTasks;
  /** Serialises what ends a sandbox, by its id. */
  readonly endings: KeyedMutex;
  readonly domain: string | undefined;
  readonly maxTimeoutSec: number;
  /** To be called when a sandbox's end was set or moved earlier. */
  readonly endChanged: () => void;
}
