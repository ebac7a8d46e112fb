import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { createLogger } from '@nestbox/kit';
import { ExitNotices } from './exit-notices.ts';

const logger = createLogger({ level: 'silent' });

/** A VM whose end the test decides; counts how often it is watched. */
function fakeVm() {
  const end = Promise.withResolvers<string>();
  const signals: AbortSignal[] = [];
  const waitUntilGone = (signal: AbortSignal) => {
    signals.push(signal);
    return end.promise;
  };
  return { waitUntilGone, end: end.resolve, signals };
}

test('every listener hears once, and the VM is watched once', async () => {
  const notices = new ExitNotices(logger);
  const vm = fakeVm();
  const heard: string[] = [];
  notices.add('a', vm.waitUntilGone, (reason) => heard.push(`1 ${reason}`));
  notices.add('a', vm.waitUntilGone, (reason) => heard.push(`2 ${reason}`));
  assert.equal(vm.signals.length, 1);
  vm.end('died');
  await turn();
  assert.deepEqual(heard, ['1 died', '2 died']);
});

test('taking back the last listener ends the watch', async () => {
  const notices = new ExitNotices(logger);
  const vm = fakeVm();
  const heard: string[] = [];
  const listener = (reason: string) => heard.push(reason);
  const first = notices.add('a', vm.waitUntilGone, listener);
  const second = notices.add('a', vm.waitUntilGone, listener);
  first();
  first();
  assert.equal(vm.signals[0]?.aborted, false);
  second();
  assert.equal(vm.signals[0]?.aborted, true);
  vm.end('died');
  await turn();
  assert.deepEqual(heard, []);
});

test('a listener that throws keeps nobody from hearing', async () => {
  const notices = new ExitNotices(logger);
  const vm = fakeVm();
  const heard: string[] = [];
  notices.add('a', vm.waitUntilGone, () => {
    throw new Error('a careless listener');
  });
  notices.add('a', vm.waitUntilGone, (reason) => heard.push(reason));
  vm.end('died');
  await turn();
  assert.deepEqual(heard, ['died']);
});

test('a watch that fails is begun again, and its listeners hear in the end', { timeout: 20_000 }, async () => {
  const notices = new ExitNotices(logger, { retryMs: 1 });
  let attempts = 0;
  const waitUntilGone = async () => {
    attempts++;
    if (attempts < 3) throw new Error('no /proc');
    return 'died';
  };
  const alive = setInterval(() => undefined, 1000);
  const heard = await new Promise((resolve) => notices.add('a', waitUntilGone, resolve));
  clearInterval(alive);
  assert.equal(heard, 'died');
  assert.equal(attempts, 3);
});

test('closing silences all listeners', async () => {
  const notices = new ExitNotices(logger);
  const vm = fakeVm();
  const heard: string[] = [];
  notices.add('a', vm.waitUntilGone, (reason) => heard.push(reason));
  notices.close();
  vm.end('died');
  await turn();
  assert.deepEqual(heard, []);
  assert.equal(vm.signals[0]?.aborted, true);
});
