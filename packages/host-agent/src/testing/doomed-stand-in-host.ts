import { existsSync, readFileSync } from 'node:fs';
import { newSandboxId } from '@nestbox/contract';
import { startHostAgent } from '../host-agent.ts';
import { sandboxRecord } from '../sandbox/record.ts';
import { hostLayout } from '../storage/layout.ts';
import { LoopbackNetworks } from './loopback-networks.ts';
import { until } from './sandbox-checks.ts';
import { standInDriver } from './stand-in-host.ts';
import { TEST_LOGGER, testSpec } from './test-host.ts';

/**
 * A host agent on a VM manager's stand-in in a process of its own, to be killed: comes to the moment that it is told, says which
 * sandbox it has, its VM's process and what is to be found, and stays. Arguments: state folder, run folder, instance, VM
 * manager, moment.
 */
const [, , stateDir = '', runDir = '', instance = '', name = '', moment = ''] = process.argv;
const vmm = name === 'firecracker' ? 'firecracker' : 'cloud-hypervisor';
const paths = { stateDir, runDir, instance };
const layout = hostLayout(paths);
const networks = new LoopbackNetworks();
let mood = '';
const NEVER = new Promise<never>(() => {});
const WITH_MEMORY = { memory: true };

const driver = standInDriver(vmm, paths, networks, () => mood);
const { manager } = await startHostAgent({ paths, logger: TEST_LOGGER, driver, networks, useSnapshots: false });
const { sandboxId } = (await manager.create(testSpec({ accessToken: 'secret' }))).result;
const { situation } = sandboxRecord.parse(JSON.parse(readFileSync(layout.sandboxRecord(sandboxId), 'utf8')));
const pid = situation.state === 'running' ? situation.vm.process.pid : 0;

const MOMENTS: Readonly<Record<string, () => Promise<'running' | 'paused'>>> = {
  async 'one runs'() {
    return 'running';
  },
  async 'a pause is saving'() {
    Object.assign(driver, { save: () => NEVER });
    void manager.pause(sandboxId, WITH_MEMORY);
    await until('the pause', () => existsSync(layout.sandboxPauseDraft(sandboxId)));
    return 'running';
  },
  async 'a pause is recorded'() {
    Object.assign(driver, { destroy: () => NEVER });
    await manager.pause(sandboxId, WITH_MEMORY);
    return 'paused';
  },
  async 'a resume waits'() {
    await manager.pause(sandboxId, WITH_MEMORY);
    mood = 'mute';
    void manager.resume(sandboxId, WITH_MEMORY);
    const asked = () => readFileSync(layout.sandboxConsole(sandboxId), 'utf8').match(/^agent: POST \/init$/gm) ?? [];
    await until('the settings', () => asked().length === 2);
    return 'paused';
  },
  async 'a fork is copying'() {
    let copied = false;
    const { resume } = driver;
    Object.assign(driver, {
      resume(handle: Parameters<typeof resume>[0]) {
        if (handle.vmId !== sandboxId) return resume.call(driver, handle);
        copied = true;
        return NEVER;
      },
    });
    void manager.fork(sandboxId, [{ sandboxId: newSandboxId(), accessToken: undefined }]);
    await until('the copy', () => copied);
    return 'running';
  },
};

const was = await MOMENTS[moment]?.();
process.stdout.write(`${JSON.stringify({ sandboxId, pid, was })}\n`);
setInterval(() => {}, 60_000);
