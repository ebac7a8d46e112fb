import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { GUEST_AGENT_PORT } from '@nestbox/contract';
import { createGuestClient } from '../guest/guest-client.ts';
import { TEST_LOGGER, testSpec } from '../testing/test-host.ts';
import { createFakeDriver } from '../vmm/fake/fake-driver.ts';
import { prepareGuest } from './prepare-guest.ts';

test('a guest that dies while it gets ready is not waited for', async (t) => {
  const address = '127.93.14.1';
  // As the network of a VM that is gone: it takes what is sent, and never answers.
  const silent = createServer((socket) => socket.resume().on('error', () => undefined));
  silent.listen(GUEST_AGENT_PORT, address);
  await once(silent, 'listening');
  t.after(() => silent.close());
  const guest = createGuestClient({ address, accessToken: undefined });
  t.after(() => guest.close());
  let watchers = 0;
  let end: ((reason: string) => void) | undefined;
  const driver = Object.assign(createFakeDriver({ runRoot: '/nonexistent', logger: TEST_LOGGER }), {
    onExit(_handle: object, listener: (reason: string) => void) {
      watchers += 1;
      end = listener;
      return () => {
        watchers -= 1;
      };
    },
  });
  const { sandboxId } = testSpec();
  const handle = {
    vmId: sandboxId,
    vmm: 'fake',
    process: { pid: 1, startTicks: 0 },
    runDir: '/nonexistent/x',
    cgroup: undefined,
  } as const;
  const began = performance.now();
  const asked = once(silent, 'connection');
  const preparing = prepareGuest(
    { driver, logger: TEST_LOGGER },
    { id: sandboxId },
    { guest, handle },
    { syncDisk: true },
  );
  await asked;
  end?.('somebody killed it');
  await preparing;
  assert.ok(performance.now() - began < 5000, 'not before the limit for guests that live');
  assert.equal(watchers, 0);
});
