import { test } from 'node:test';
import { postgresMissing, startPostgres } from './testing/postgres-server.ts';
import { testOnPostgres } from './testing/test-store.ts';

/** The suites of the services, each once more with its state in PostgreSQL. */
const SUITES = [
  './audit-own-changes.test.ts',
  './control-api.test.ts',
  './e2b-client.test.ts',
  './fork.test.ts',
  './http/openapi-fuzz.test.ts',
  './log-secrets.test.ts',
  './metrics.test.ts',
  './nodes.test.ts',
  './observability.test.ts',
  './pause-and-resume.test.ts',
  './reconcile/lost-database.test.ts',
  './reconcile/pause-at-end.test.ts',
  './reconcile/reconcile-pauses.test.ts',
  './reconcile/reconcile.test.ts',
  './service/audit-trail.test.ts',
  './snapshots.test.ts',
  './teams.test.ts',
  './update-network.test.ts',
];

const skip = postgresMissing();
if (skip !== false) test('the services on PostgreSQL', { skip }, () => {});
else {
  // It ends with this process.
  await testOnPostgres(await startPostgres());
  for (const suite of SUITES) await import(suite);
}
