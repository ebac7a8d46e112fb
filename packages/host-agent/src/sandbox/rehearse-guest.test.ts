import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import { createGuestClient, type GuestClient } from '../guest/guest-client.ts';
import { testSpec } from '../testing/test-host.ts';
import { rehearseGuest } from './rehearse-guest.ts';

test('a rehearsal goes the way of a first user with a token, before and after the garbage is gone, and leaves no token', async () => {
  const asked: string[] = [];
  let token: string | undefined;
  const note = (what: string) => asked.push(`${what}${token === undefined ? '' : ' with a token'}`);
  const guest: GuestClient = {
    ...createGuestClient({ address: '127.0.0.1', accessToken: undefined }),
    giveToken: (given) => {
      token = given;
    },
    warmUp: async () => void note('warm up'),
    settle: async () => void note('settle'),
    init: async () => {
      note('init');
      return { envdVersion: undefined };
    },
    closeIdleConnections: () => void note('close'),
  };
  const identity = { spec: testSpec(), templateId: 't', vcpuCount: 1, memoryMib: 1, diskMib: 1, createdAtMs: 0 };
  await rehearseGuest(
    { ...identity, guest: { envVars: {}, defaultUser: 'user' } },
    guest,
    createLogger({ level: 'silent' }),
    new AbortController().signal,
  );
  assert.deepEqual(asked.slice(0, 4), ['warm up', 'settle', 'warm up', 'init with a token']);
  assert.deepEqual(asked.slice(-2), ['init', 'close']);
  assert.equal(token, undefined);
});
