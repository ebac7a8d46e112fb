import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeDenial } from './describe-denial.ts';

const denial = {
  sandboxId: 'i1',
  atMs: 1,
  protocol: 'tcp',
  name: undefined,
  address: '1.2.3.4',
  port: 443,
  reason: 'no rule',
  untold: 0,
};

test('a denial is told by its name, else by its address, with the port, and with how many went untold', () => {
  assert.deepEqual(describeDenial(denial), [
    'Connection denied: tcp to 1.2.3.4:443: no rule',
    { event_type: 'egress_denied', protocol: 'tcp', address: '1.2.3.4', port: '443' },
  ]);
  const [message] = describeDenial({ ...denial, name: 'a.example', port: undefined, untold: 3 });
  assert.equal(message, 'Connection denied: tcp to a.example: no rule (and 3 more before)');
});
