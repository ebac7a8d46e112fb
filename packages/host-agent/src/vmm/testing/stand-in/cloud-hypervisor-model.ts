import { accessSync, constants, existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { hasInterface } from './firecracker-model.ts';
import { countOnDisk } from './guest-disk.ts';
import { GuestMemory } from './guest-memory.ts';
import { ModelFault, type Reply, type VmmModel, violation } from './model.ts';

const config = z.looseObject({
  cpus: z.object({ boot_vcpus: z.number(), max_vcpus: z.number() }),
  memory: z.object({ size: z.number() }),
  payload: z.object({ kernel: z.string(), initramfs: z.string() }),
  disks: z.array(z.looseObject({ path: z.string(), readonly: z.boolean().optional() })),
  net: z.array(z.looseObject({ tap: z.string(), host_mac: z.string().nullish() })).optional(),
});
const snapshot = z.object({ destination_url: z.string() });
const restore = z.object({ source_url: z.string(), memory_restore_mode: z.enum(['Copy', 'OnDemand']).optional() });
const savedState = z.object({ format: z.literal('cloud-hypervisor stand-in'), version: z.string() });

type State = 'Created' | 'Running' | 'Paused';

/** As Cloud Hypervisor refuses: causes, the outermost first. */
function refusal(status: number, ...causes: readonly string[]): ModelFault {
  return new ModelFault({ status, body: ['Error from API', ...causes] }, causes.join(': '));
}

const NOT_CREATED = 'The VM is not created';

/** What a stand-in does besides answering. */
export interface CloudHypervisorStage {
  readonly version: string;
  readonly say: (line: string) => void;
  /** Of a VM restored on demand: whether the guest has read all of its memory. */
  readonly preloaded: () => boolean;
  /** What to link to in place of saving the memory. */
  readonly memoryLink: () => string | undefined;
  /** Writes to the event monitor. */
  readonly tell: (source: string, event: string) => void;
}

/** Cloud Hypervisor as its API shows it. */
export class CloudHypervisorModel implements VmmModel {
  readonly #stage: CloudHypervisorStage;
  #state: State | undefined;
  #config: z.infer<typeof config> | undefined;
  #memory: GuestMemory | undefined;

  constructor(stage: CloudHypervisorStage) {
    this.#stage = stage;
  }

  get memory(): GuestMemory | undefined {
    return this.#memory;
  }

  handle(method: string, path: string, body: unknown): Reply {
    switch (`${method} ${path}`) {
      case 'GET /api/v1/vm.info':
        if (this.#state === undefined) throw refusal(404, NOT_CREATED);
        return { status: 200, body: { state: this.#state, config: this.#config } };
      case 'PUT /api/v1/vm.create':
        if (this.#state !== undefined) throw refusal(500, 'The VM could not be created', 'VM is already created');
        this.#config = config.parse(body);
        checkSizes(this.#config);
        checkFiles(this.#config, true);
        this.#state = 'Created';
        break;
      case 'PUT /api/v1/vm.boot':
        if (this.#state === undefined || this.#config === undefined) throw refusal(404, NOT_CREATED);
        if (this.#state !== 'Created') throw refusal(500, 'The VM could not boot', 'Invalid VM state transition');
        this.#stage.tell('vm', 'booting');
        this.#memory = GuestMemory.blank(this.#config.memory.size);
        this.#live();
        this.#stage.say('boot');
        this.#stage.tell('vm', 'booted');
        this.#state = 'Running';
        break;
      case 'PUT /api/v1/vm.pause':
        this.#move('Running', 'Paused');
        break;
      case 'PUT /api/v1/vm.resume':
        this.#move('Paused', 'Running');
        this.#live();
        break;
      case 'PUT /api/v1/vm.resize':
        if (this.#state === undefined) throw refusal(404, NOT_CREATED);
        break;
      case 'PUT /api/v1/vm.snapshot':
        this.#save(folderOf(snapshot.parse(body).destination_url));
        break;
      case 'PUT /api/v1/vm.restore':
        this.#restore(restore.parse(body));
        break;
      case 'PUT /api/v1/vm.delete':
        this.#state = undefined;
        this.#memory?.close();
        this.#memory = undefined;
        break;
      default:
        throw violation(`the stand-in does not know ${method} ${path}`);
    }
    return { status: 204 };
  }

  /** The guest runs for a moment: it changes its memory, and counts on its disk. */
  #live(): void {
    this.#memory?.tick();
    const root = this.#config?.disks[0];
    if (root !== undefined && root.readonly !== true) countOnDisk(root.path);
  }

  #move(from: State, to: State): void {
    if (this.#state === undefined) throw refusal(404, NOT_CREATED);
    if (this.#state !== from) throw refusal(405, 'Invalid VM state transition', `${this.#state} to ${to}`);
    this.#state = to;
  }

  #save(folder: string): void {
    if (this.#state !== 'Paused' || this.#memory === undefined || this.#config === undefined)
      throw refusal(405, 'The VM could not be snapshotted', 'It is not paused');
    if (this.#stage.preloaded()) this.#memory.touchAll();
    // The real one keeps the address of the TAP that it found.
    const net = this.#config.net?.map((device) => ({ ...device, host_mac: '02:fc:00:00:00:99' }));
    const saved = { ...this.#config, ...(net === undefined ? {} : { net }) };
    const state: z.infer<typeof savedState> = { format: 'cloud-hypervisor stand-in', version: this.#stage.version };
    writeFileSync(join(folder, 'config.json'), JSON.stringify(saved), { flag: 'wx' });
    writeFileSync(join(folder, 'state.json'), JSON.stringify(state), { flag: 'wx' });
    const link = this.#stage.memoryLink();
    if (link !== undefined) {
      symlinkSync(link, join(folder, 'memory-ranges'));
      return;
    }
    // Pages that were not touched since an on-demand restore are not there.
    this.#memory.dumpAll(join(folder, 'memory-ranges'), { sparse: true, flags: 'wx' });
  }

  #restore({ source_url, memory_restore_mode }: z.infer<typeof restore>): void {
    if (this.#state !== undefined) throw refusal(404, 'The VM is already created');
    if (memory_restore_mode !== undefined && Number.parseInt(this.#stage.version, 10) < 52)
      throw violation('memory_restore_mode is not known to this version');
    const folder = folderOf(source_url);
    const read = <T>(name: string, schema: z.ZodType<T>): T => {
      try {
        return schema.parse(JSON.parse(readFileSync(join(folder, name), 'utf8')));
      } catch (error) {
        throw refusal(500, 'The VM could not be restored', `${name}: ${error instanceof Error ? error.message : ''}`);
      }
    };
    const { version } = read('state.json', savedState);
    if (version !== this.#stage.version)
      throw refusal(500, 'The VM could not be restored', `the state is one of version ${version}`);
    const restored = read('config.json', config);
    checkFiles(restored, false);
    // Without CAP_NET_ADMIN.
    for (const { tap, host_mac } of restored.net ?? [])
      if (host_mac) throw refusal(500, 'The VM could not be restored', `Setting MAC address of tap ${tap} failed`);
    const path = join(folder, 'memory-ranges');
    if (statSync(path).size !== restored.memory.size)
      throw refusal(500, 'The VM could not be restored', 'memory-ranges: failed to fill whole buffer');
    this.#config = restored;
    this.#memory = GuestMemory.mapped(path);
    if (memory_restore_mode !== 'OnDemand') this.#memory.touchAll();
    this.#state = 'Paused';
  }
}

function folderOf(url: string): string {
  if (!url.startsWith('file:///')) throw refusal(500, 'Invalid URL', url);
  return url.slice('file://'.length);
}

function checkSizes({ cpus, memory }: z.infer<typeof config>): void {
  if (cpus.boot_vcpus < 1 || cpus.boot_vcpus > 254)
    throw refusal(500, 'The VM could not be created', `Invalid number of vCPUs: ${cpus.boot_vcpus}`);
  if (memory.size % 4096 !== 0 || memory.size === 0)
    throw refusal(500, 'The VM could not be created', `Invalid memory size: ${memory.size}`);
}

/** A restored VM does not look at its kernel any more. */
function checkFiles({ payload, disks, net }: z.infer<typeof config>, booting: boolean): void {
  const files = [...(booting ? [payload.kernel, payload.initramfs] : []), ...disks.map((disk) => disk.path)];
  for (const path of files)
    if (!existsSync(path)) throw refusal(500, 'The VM could not be created', `${path}: No such file or directory`);
  for (const disk of disks)
    accessSync(disk.path, disk.readonly === true ? constants.R_OK : constants.R_OK | constants.W_OK);
  for (const { tap } of net ?? [])
    if (!hasInterface(tap)) throw refusal(500, 'The VM could not be created', `Open tap device failed: ${tap}`);
}
