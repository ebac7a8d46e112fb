import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sandboxFacts } from './sandbox-facts.ts';

const DETAIL = {
  templateID: 'base',
  sandboxID: 'i1',
  clientID: 'c',
  startedAt: '2026-01-01T00:00:00Z',
  endAt: '2026-01-01T00:05:00Z',
  cpuCount: 2,
  memoryMB: 512,
  diskSizeMB: 1024,
  envdVersion: '0.6.13',
  metadata: { owner: 'me' },
};

test('state, lifecycle and the last activity come first, in words', () => {
  const facts = sandboxFacts(
    { ...DETAIL, state: 'running', lifecycle: { autoResume: true, onTimeout: 'pause' } },
    { lastActivityAt: '2026-01-01T00:01:00Z', runningCommands: 1, openConnections: 2 },
    Date.parse('2026-01-01T00:01:12Z'),
  );
  assert.deepEqual(facts.slice(0, 5), [
    ['sandboxID', 'i1'],
    ['state', 'running'],
    ['lifecycle', 'is paused at its time-out; the next request resumes it'],
    ['lastActivity', '2026-01-01T00:01:00Z (12.0 s ago); commands that run: 1, open connections: 2'],
    ['templateID', 'base'],
  ]);
  assert.deepEqual(facts.at(-1), ['metadata', '{"owner":"me"}']);
});

test('a paused sandbox has no end, and what is not known is left out', () => {
  const facts = sandboxFacts({ ...DETAIL, state: 'paused' }, undefined, 0);
  const names = facts.map(([name]) => name);
  assert.deepEqual(names.slice(0, 3), ['sandboxID', 'state', 'templateID']);
  assert.ok(!names.includes('endAt'));
});
