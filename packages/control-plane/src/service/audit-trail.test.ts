import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import { systemClock } from '../clock.ts';
import { pageAuditEntries } from '../store/audit-repository.ts';
import { openStore } from '../store/open-store.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { testStore } from '../testing/test-store.ts';
import { AuditTrail, DEFAULT_AUDIT_LIMITS } from './audit-trail.ts';

test('attempts from very many addresses take few entries, and none is left uncounted', async () => {
  const db = await openStore(await testStore(':memory:'));
  try {
    const logger = createLogger({ level: 'silent' });
    const trail = new AuditTrail({ db, clock: systemClock, logger, limits: DEFAULT_AUDIT_LIMITS });
    for (let attempt = 0; attempt < 6000; attempt++)
      trail.noteRefusal('key', `10.0.${(attempt / 2) >> 8}.${attempt >> 1}`);
    await trail.writeRefusals();
    const entries = await pageAuditEntries(db, { scope: EVERY_TEAM }, { limit: 10_000 });
    assert.equal(entries.length, 1001);
    assert.equal(
      entries.reduce((sum, { count }) => sum + count, 0),
      6000,
    );
    assert.deepEqual(
      entries.filter(({ address }) => address === undefined).map(({ count }) => count),
      [4000],
    );
  } finally {
    await db.destroy();
  }
});

test('a trail that cannot be written is told in the log, with all that it would have had', async () => {
  const lines: string[] = [];
  const db = await openStore(await testStore(':memory:'));
  const logger = createLogger({ level: 'info', write: (line) => lines.push(line) });
  const trail = new AuditTrail({ db, clock: systemClock, logger, limits: DEFAULT_AUDIT_LIMITS });
  await db.destroy();
  await trail.note({
    requestId: 'r',
    operation: 'team.delete',
    targets: ['t'],
    teamId: undefined,
    actor: { kind: 'admin' },
    address: '::1',
    status: 204,
    errorCode: undefined,
    reason: undefined,
  });
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /audit trail could not be written/);
  assert.match(lines[0] ?? '', /team\.delete/);
});
