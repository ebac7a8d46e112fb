import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentState } from './state.ts';

test('new user variables replace all earlier ones; those of the agent stay and win', () => {
  const state = new AgentState();
  state.setInternalEnv('E2B_SANDBOX_ID', 'i1');
  state.replaceUserEnv({ A: '1', E2B_SANDBOX_ID: 'fake' });
  assert.deepEqual(state.globalEnv, { A: '1', E2B_SANDBOX: 'true', E2B_SANDBOX_ID: 'i1' });
  state.replaceUserEnv({ B: '2' });
  assert.deepEqual(state.globalEnv, { B: '2', E2B_SANDBOX: 'true', E2B_SANDBOX_ID: 'i1' });
});
