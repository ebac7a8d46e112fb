import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Sandbox } from 'e2b';
import { forEachAddressing } from '../support/each-addressing.ts';
import { type OutsideServer, startOutsideServer } from '../support/outside-server.ts';

forEachAddressing('where a sandbox may connect to', { sandbox: {} }, (suite) => {
  let outside: OutsideServer;

  before(async () => {
    outside = await startOutsideServer();
  });

  after(async () => {
    await outside[Symbol.asyncDispose]();
  });

  /** Which of the two servers answer a sandbox. */
  async function reached(sandbox: Sandbox): Promise<string> {
    const probe = (address: string) =>
      `timeout 10 bash -c 'exec 3<>/dev/tcp/${address}/80 && read -r line <&3 && echo ${address}' 2>/dev/null;`;
    return (await sandbox.commands.run(`${outside.addresses.map(probe).join(' ')} true`)).stdout
      .trim()
      .replaceAll('\n', ' ');
  }

  test('is everything public at first; addresses can be denied and allowed while it runs', async () => {
    const { sandbox } = suite;
    const [first, second] = outside.addresses;
    assert.equal(await reached(sandbox), `${first} ${second}`);
    await sandbox.updateNetwork({ denyOut: [first] });
    assert.equal(await reached(sandbox), second);
    await sandbox.updateNetwork({ denyOut: ({ allTraffic }) => [allTraffic], allowOut: [first] });
    assert.equal(await reached(sandbox), first);
    assert.partialDeepStrictEqual((await sandbox.getInfo()).network, { denyOut: ['0.0.0.0/0'], allowOut: [first] });
    await sandbox.updateNetwork({});
    assert.equal(await reached(sandbox), `${first} ${second}`);
  });

  // What a sandbox may reach does not depend on how clients reach it.
  if (suite.addressing === 'domain') return;

  test('holds from the create on, after a pause, and in a copy', async () => {
    const [first, second] = outside.addresses;
    const sandbox = await suite.createSandbox({ network: { denyOut: [first] } });
    assert.equal(await reached(sandbox), second);
    await sandbox.pause();
    const again = await Sandbox.connect(sandbox.sandboxId, suite.connection);
    assert.equal(await reached(again), second);
    const [copy] = await again.fork({ count: 1, timeoutMs: 300_000 });
    assert.ok(copy instanceof Sandbox);
    assert.equal(await reached(copy), second);
    await copy.kill();
    await sandbox.kill();
  });

  test('by name: other names are not resolved, and no address is open without its name', async () => {
    const network = { denyOut: ['0.0.0.0/0'], allowOut: ['allowed.invalid', '*.allowed.invalid'] };
    const sandbox = await suite.createSandbox({ network });
    assert.equal(await reached(sandbox), '');
    const asked = await sandbox.commands.run('getent ahostsv4 other.example; echo "exit $?"');
    assert.match(asked.stdout, /exit 2/);
    assert.equal((await sandbox.commands.run('echo still here')).stdout, 'still here\n');
    await assert.rejects(sandbox.updateNetwork({ allowOut: ['a.example'] }), /400.*0\.0\.0\.0\/0/);
    await sandbox.kill();
  });
});
