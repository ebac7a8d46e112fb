/** A control plane with so many sandboxes of a host without VMs, for bench/api-rate.ts: prints its URL, key and one id. */
import { createSandbox } from '../packages/control-plane/src/testing/api-answers.ts';
import { HostDouble } from '../packages/control-plane/src/testing/host-double.ts';
import { startTestServer, TEST_API_KEY } from '../packages/control-plane/src/testing/start-test-server.ts';

const count = Number(process.argv[2]);
const host = await new HostDouble().open();
const server = await startTestServer([host]);
let sandboxId = '';
for (let made = 0; made < count; made++)
  sandboxId = await createSandbox(server, { timeout: 3600, metadata: { number: String(made) } });
console.log(JSON.stringify({ apiUrl: server.apiUrl, apiKey: TEST_API_KEY, sandboxId }));
process.once('SIGTERM', () => {
  void server.stop().then(() => host[Symbol.asyncDispose]());
});
