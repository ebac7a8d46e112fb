import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { GuestMemory } from './guest-memory.ts';
import { ModelFault, type Reply, type VmmModel, violation } from './model.ts';

const config = z.object({
  memory: z.object({ size: z.number() }),
  payload: z.object({ kernel: z.string(), initramfs: z.string() }),
  disks: z.array(z.object({ path: z.string(), readonly: z.boolean().optional() })),
  net: z.array(z.object({ tap: z.string() })).optional(),
});
const snapshot = z.object({ destination_url: z.string() });
const restore = z.object({ source_url: z.string(), memory_restore_mode: z.enum(['Copy', 'OnDemand']).optional() });

type State = 'Created' | 'Running' | 'Paused';

/** As Cloud Hypervisor refuses: causes, the outermost first. */
function refusal(status: number, ...causes: readonly string[]): ModelFault {
  return new ModelFault({ status, body: ['Error from API', ...causes] }, causes.join(': '));
}

const NOT_CREATED = 'The VM is not created';

/** Cloud Hypervisor as its API shows it. */
export class CloudHypervisorModel implements VmmModel {
  readonly #say: (line: string) => void;
  readonly #preloaded: () => boolean;
  #state: State | undefined;
  #config: z.infer<typeof config> | undefined;
  #memory: GuestMemory | undefined;

  constructor(say: (line: string) => void, preloaded: () => boolean) {
    this.#say = say;
    this.#preloaded = preloaded;
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
        this.#config = checkFiles(config.parse(body));
        this.#state = 'Created';
        break;
      case 'PUT /api/v1/vm.boot':
        if (this.#state === undefined || this.#config === undefined) throw refusal(404, NOT_CREATED);
        if (this.#state !== 'Created') throw refusal(500, 'The VM could not boot', 'Invalid VM state transition');
        this.#memory = GuestMemory.blank(this.#config.memory.size);
        this.#memory.tick();
        this.#say('boot');
        this.#state = 'Running';
        break;
      case 'PUT /api/v1/vm.pause':
        this.#move('Running', 'Paused');
        break;
      case 'PUT /api/v1/vm.resume':
        this.#move('Paused', 'Running');
        this.#memory?.tick();
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

  #move(from: State, to: State): void {
    if (this.#state === undefined) throw refusal(404, NOT_CREATED);
    if (this.#state !== from) throw refusal(405, 'Invalid VM state transition', `${this.#state} to ${to}`);
    this.#state = to;
  }

  #save(folder: string): void {
    if (this.#state !== 'Paused' || this.#memory === undefined)
      throw refusal(405, 'The VM could not be snapshotted', 'It is not paused');
    if (this.#preloaded()) this.#memory.touchAll();
    writeFileSync(join(folder, 'config.json'), JSON.stringify(this.#config), { flag: 'wx' });
    writeFileSync(join(folder, 'state.json'), '{"stand-in":true}', { flag: 'wx' });
    // Pages that were not touched since an on-demand restore are not there.
    this.#memory.dumpAll(join(folder, 'memory-ranges'), { sparse: true, flags: 'wx' });
  }

  #restore({ source_url, memory_restore_mode }: z.infer<typeof restore>): void {
    if (this.#state !== undefined) throw refusal(404, 'The VM is already created');
    const folder = folderOf(source_url);
    const saved = (name: string): unknown => {
      try {
        return JSON.parse(readFileSync(join(folder, name), 'utf8'));
      } catch (error) {
        throw refusal(500, 'The VM could not be restored', `${name}: ${error instanceof Error ? error.message : ''}`);
      }
    };
    saved('state.json');
    this.#config = checkFiles(config.parse(saved('config.json')));
    this.#memory = GuestMemory.mapped(join(folder, 'memory-ranges'));
    if (memory_restore_mode !== 'OnDemand') this.#memory.touchAll();
    this.#state = 'Paused';
  }
}

function folderOf(url: string): string {
  if (!url.startsWith('file:///')) throw refusal(500, 'Invalid URL', url);
  return url.slice('file://'.length);
}

function checkFiles(checked: z.infer<typeof config>): z.infer<typeof config> {
  const { payload, disks } = checked;
  for (const path of [payload.kernel, payload.initramfs, ...disks.map((disk) => disk.path)])
    if (!existsSync(path)) throw refusal(500, 'The VM could not be created', `${path}: No such file or directory`);
  for (const disk of disks)
    accessSync(disk.path, disk.readonly === true ? constants.R_OK : constants.R_OK | constants.W_OK);
  return checked;
}
