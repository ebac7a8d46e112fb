import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { networkChecks } from './network-checks.ts';
import { insidePrivateHost } from './testing/private-host.ts';

async function check(name: string) {
  const found = (await networkChecks({ dnsUpstream: '203.0.113.53' })).find((entry) => entry.name === name);
  assert.ok(found, name);
  return found;
}

if (insidePrivateHost(import.meta.filename)) {
  test('on a host with nothing in the way all checks are ok and nothing is changed', async () => {
    for (const { state, name, found, mend } of await networkChecks({ dnsUpstream: '203.0.113.53' })) {
      assert.equal(state, 'ok', `${name}: ${found}`);
      assert.equal(mend, undefined);
    }
    assert.equal((await runCommand('nft', ['list', 'tables'])).stdout, '');
  });

  test('a firewall that drops forwarded packets is named, with the command that mends it', async () => {
    await runCommand('nft', ['-f', '-'], {
      input: `table ip filter {
        chain FORWARD { type filter hook forward priority filter; policy drop; }
        chain DOCKER-USER { }
      }\n`,
    });
    const { state, found, mend } = await check('Other firewalls');
    assert.equal(state, 'warning');
    assert.match(found, /ip filter FORWARD/);
    assert.match(mend ?? '', /iptables -I DOCKER-USER -i nb-\+ -j ACCEPT/);
    await runCommand('nft', ['delete', 'table', 'ip', 'filter']);
    assert.equal((await check('Other firewalls')).state, 'ok');
  });

  test('a network that uses our addresses is named', async () => {
    await runCommand('ip', ['-batch', '-'], {
      input: 'link add lan7 type bridge\nlink set lan7 up\nroute add 10.12.8.0/24 dev lan7\n',
    });
    const { state, found } = await check('Address ranges');
    assert.equal(state, 'warning');
    assert.match(found, /10\.12\.8\.0\/24 on lan7/);
    await runCommand('ip', ['link', 'del', 'lan7']);
  });

  test('missing tools are named with their packages', async (t) => {
    const path = process.env.PATH;
    process.env.PATH = '/nonexistent';
    t.after(() => {
      process.env.PATH = path;
    });
    const { state, mend } = await check('Network tools');
    assert.equal(state, 'failed');
    assert.equal(mend, 'apt-get install iproute2 nftables util-linux');
    assert.equal((await check('Packet filter')).state, 'failed');
  });
}
