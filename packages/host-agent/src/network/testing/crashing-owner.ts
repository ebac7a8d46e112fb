import { createLogger } from '@nestbox/kit';
import { createSandboxNetworks } from '../sandbox-networks.ts';
import { CLOSED_RULES } from '../slot-rules.ts';

// Started by reconcile.test.ts: takes slots, says their indexes, and waits to be killed: crashing-owner.ts <tag> <slots dir> <count>
const [instance = '', slotsDir = '', count = '1'] = process.argv.slice(2);
const logger = createLogger({ level: 'error' });
const networks = await createSandboxNetworks({ instance, slotsDir, poolSize: 1, logger, dnsUpstream: '203.0.113.53' });
const slots = [];
for (let i = 0; i < Number(count); i++) slots.push(await networks.acquire());
await networks.setRules(slots[0] ?? (await networks.acquire()), CLOSED_RULES);
console.log(JSON.stringify(slots.map(({ index }) => index)));
process.stdin.resume();
