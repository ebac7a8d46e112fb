import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { countOnDisk } from './guest-disk.ts';
import { GuestMemory } from './guest-memory.ts';
import { fault, type Reply, type VmmModel, violation } from './model.ts';

const paths = {
  bootSource: z.object({ kernel_image_path: z.string(), initrd_path: z.string().optional() }),
  drive: z.object({ drive_id: z.string(), path_on_host: z.string(), is_read_only: z.boolean() }),
  drivePatch: z.object({ drive_id: z.string(), path_on_host: z.string() }),
  machine: z.object({
    vcpu_count: z.number(),
    mem_size_mib: z.number(),
    track_dirty_pages: z.boolean().default(false),
  }),
  network: z.object({ iface_id: z.string(), host_dev_name: z.string() }),
  mmds: z.object({ network_interfaces: z.array(z.string()) }),
  action: z.object({ action_type: z.string() }),
  vm: z.object({ state: z.enum(['Paused', 'Resumed']) }),
  create: z.object({ snapshot_path: z.string(), mem_file_path: z.string(), snapshot_type: z.string().optional() }),
  load: z.object({
    snapshot_path: z.string(),
    mem_backend: z.object({ backend_type: z.literal('File'), backend_path: z.string() }),
    resume_vm: z.boolean().optional(),
    track_dirty_pages: z.boolean().optional(),
    enable_diff_snapshots: z.boolean().optional(),
  }),
  balloon: z.object({ amount_mib: z.number() }),
} as const;

const savedState = z.object({
  format: z.literal('firecracker stand-in'),
  version: z.string(),
  memoryMib: z.number(),
  vcpuCount: z.number(),
  drives: z.array(z.object({ id: z.string(), path: z.string(), readOnly: z.boolean() })),
  networks: z.array(z.object({ id: z.string(), tap: z.string() })),
  balloonMib: z.number().optional(),
});

type Phase = 'fresh' | 'configured' | 'running' | 'paused';

const AFTER_START = 'The requested operation is not supported after starting the microVM.';
const BEFORE_START = 'The requested operation is not supported before starting the microVM.';

/** Firecracker as its API shows it: what may come when, and what it leaves on the disk. */
export class FirecrackerModel implements VmmModel {
  readonly #version: string;
  readonly #say: (line: string) => void;
  #phase: Phase = 'fresh';
  #kernel: string | undefined;
  #machine: z.infer<typeof paths.machine> = { vcpu_count: 1, mem_size_mib: 128, track_dirty_pages: false };
  #drives = new Map<string, { path: string; readOnly: boolean }>();
  #networks = new Map<string, string>();
  #metrics: string | undefined;
  #balloonMib: number | undefined;
  #mmdsState: 'absent' | 'configured' = 'absent';
  #memory: GuestMemory | undefined;

  constructor(version: string, say: (line: string) => void, metrics: string | undefined) {
    this.#version = version;
    this.#say = say;
    this.#metrics = metrics;
  }

  get memory(): GuestMemory | undefined {
    return this.#memory;
  }

  handle(method: string, path: string, body: unknown): Reply {
    const [, resource = '', id] = path.split('/');
    switch (`${method} /${resource}${resource === 'snapshot' || resource === 'mmds' ? `/${id ?? ''}` : ''}`) {
      case 'GET /':
        return {
          status: 200,
          body: { app_name: 'Firecracker', id: 'x', state: this.#state(), vmm_version: this.#version },
        };
      case 'GET /version':
        return { status: 200, body: { firecracker_version: this.#version } };
      case 'GET /vm':
        return { status: 200, body: this.#configuration() };
      case 'GET /machine-config':
        return { status: 200, body: { ...this.#machine, smt: false } };
      case 'PUT /boot-source':
        return this.#configure(() => {
          const { kernel_image_path, initrd_path } = paths.bootSource.parse(body);
          this.#open(kernel_image_path, 'The kernel file cannot be opened');
          if (initrd_path !== undefined)
            this.#open(initrd_path, 'The initrd file cannot be opened due to invalid path');
          this.#kernel = kernel_image_path;
        });
      case 'PUT /drives':
        return this.#configure(() => {
          const drive = paths.drive.parse(body);
          if (drive.drive_id !== id) throw fault('The id from the path does not match the id from the body!');
          this.#open(drive.path_on_host, 'Unable to open the backing file', !drive.is_read_only);
          this.#drives.set(drive.drive_id, { path: drive.path_on_host, readOnly: drive.is_read_only });
        });
      case 'PUT /machine-config':
        return this.#configure(() => {
          const machine = paths.machine.parse(body);
          if (machine.vcpu_count < 1 || machine.vcpu_count > 32)
            throw fault(
              'The vCPU number is invalid! The vCPU number can only be 1 or an even number when SMT is enabled.',
            );
          if (machine.mem_size_mib < 1) throw fault('The memory size (MiB) is invalid.');
          this.#machine = machine;
        });
      case 'PUT /network-interfaces':
        return this.#configure(() => {
          const network = paths.network.parse(body);
          if (!hasInterface(network.host_dev_name))
            throw fault(`Could not create the network device: Open tap device failed: ${network.host_dev_name}`);
          this.#networks.set(network.iface_id, network.host_dev_name);
        });
      case 'PUT /mmds/config':
        return this.#configure(() => {
          const unknown = paths.mmds.parse(body).network_interfaces.find((name) => !this.#networks.has(name));
          if (unknown !== undefined) throw fault(`Invalid interface ID: ${unknown}`);
          this.#mmdsState = 'configured';
        });
      case 'PUT /mmds/':
        return this.#mmdsState === 'configured' ? { status: 204 } : fault('The MMDS was not configured.').reply;
      case 'PUT /entropy':
      case 'PUT /serial':
        return this.#configure(() => undefined);
      case 'PUT /balloon':
        return this.#configure(() => {
          this.#balloonMib = paths.balloon.parse(body).amount_mib;
        });
      case 'PATCH /balloon':
        if (this.#balloonMib === undefined) return fault('No balloon device found.').reply;
        this.#balloonMib = paths.balloon.parse(body).amount_mib;
        return { status: 204 };
      case 'GET /balloon':
        if (this.#balloonMib === undefined) return fault('No balloon device found.').reply;
        return { status: 200, body: { amount_mib: this.#balloonMib, deflate_on_oom: true } };
      case 'PUT /logger':
        return { status: 204 };
      case 'PUT /metrics':
        if (this.#metrics !== undefined) return fault('Metrics system already initialized').reply;
        this.#metrics = z.object({ metrics_path: z.string() }).parse(body).metrics_path;
        return { status: 204 };
      case 'PUT /actions':
        return this.#act(paths.action.parse(body).action_type);
      case 'PATCH /vm':
        return this.#afterStart(() => this.#setRunning(paths.vm.parse(body).state === 'Resumed'));
      case 'PATCH /drives':
        return this.#afterStart(() => {
          const drive = paths.drivePatch.parse(body);
          const known = this.#drives.get(drive.drive_id);
          if (known === undefined) throw fault(`Unable to patch the block device: unknown id ${drive.drive_id}`);
          this.#open(drive.path_on_host, 'Unable to patch the block device', !known.readOnly);
          this.#drives.set(drive.drive_id, { ...known, path: drive.path_on_host });
        });
      case 'PUT /snapshot/create':
        return this.#afterStart(() => this.#save(paths.create.parse(body)));
      case 'PUT /snapshot/load':
        return this.#load(paths.load.parse(body));
      default:
        return violation(`the stand-in does not know ${method} ${path}`).reply;
    }
  }

  #state(): string {
    if (this.#phase === 'running') return 'Running';
    return this.#phase === 'paused' ? 'Paused' : 'Not started';
  }

  #configuration() {
    return {
      'machine-config': { ...this.#machine, smt: false },
      drives: [...this.#drives].map(([drive_id, { path, readOnly }], index) => ({
        drive_id,
        path_on_host: path,
        is_read_only: readOnly,
        is_root_device: index === 0,
      })),
    };
  }

  #configure(change: () => void): Reply {
    if (this.#phase === 'running' || this.#phase === 'paused') return fault(AFTER_START).reply;
    change();
    this.#phase = 'configured';
    return { status: 204 };
  }

  #afterStart(change: () => void): Reply {
    if (this.#phase !== 'running' && this.#phase !== 'paused') return fault(BEFORE_START).reply;
    change();
    return { status: 204 };
  }

  #act(action: string): Reply {
    if (action === 'FlushMetrics') {
      if (this.#metrics === undefined) return fault('Metrics are not initialized.').reply;
      writeFileSync(this.#metrics, `${JSON.stringify({ utc_timestamp_ms: Date.now(), api_server: {} })}\n`, {
        flag: 'a',
      });
      return { status: 204 };
    }
    if (action !== 'InstanceStart') return fault(BEFORE_START).reply;
    return this.#configure(() => {
      if (this.#kernel === undefined) throw fault('Cannot start microvm without kernel configuration.');
      if (readFileSync(this.#kernel).toString('latin1', 0, 4) !== '\x7fELF')
        throw fault(
          'Cannot load kernel due to invalid memory configuration or invalid kernel image: Kernel Loader: invalid ELF magic number',
        );
      this.#memory = GuestMemory.blank(this.#machine.mem_size_mib * 2 ** 20);
      this.#live();
      this.#say('boot');
      queueMicrotask(() => {
        this.#phase = 'running';
      });
    });
  }

  #setRunning(running: boolean): void {
    if (running && this.#phase === 'paused') this.#live();
    this.#phase = running ? 'running' : 'paused';
  }

  /** The guest runs for a moment: it changes its memory, and counts on its disk. */
  #live(): void {
    this.#memory?.tick();
    const [root] = this.#drives.values();
    if (root !== undefined && !root.readOnly) countOnDisk(root.path);
  }

  #save({ snapshot_path, mem_file_path, snapshot_type }: z.infer<typeof paths.create>): void {
    if (this.#phase !== 'paused' || this.#memory === undefined)
      throw fault('Create snapshot error: Cannot save a microVM that is not paused.');
    const state: z.infer<typeof savedState> = {
      format: 'firecracker stand-in',
      version: this.#version,
      memoryMib: this.#machine.mem_size_mib,
      vcpuCount: this.#machine.vcpu_count,
      drives: [...this.#drives].map(([driveId, drive]) => ({ id: driveId, ...drive })),
      networks: [...this.#networks].map(([networkId, tap]) => ({ id: networkId, tap })),
      ...(this.#balloonMib === undefined ? {} : { balloonMib: this.#balloonMib }),
    };
    writeFileSync(snapshot_path, JSON.stringify(state));
    if (snapshot_type === 'Diff') {
      // Without tracking the real one takes every page that is in memory for dirty.
      if (!this.#machine.track_dirty_pages) this.#memory.touchAll();
      this.#memory.dumpDirty(mem_file_path);
    } else {
      this.#memory.dumpAll(mem_file_path, { sparse: false, flags: 'w' });
    }
  }

  #load(request: z.infer<typeof paths.load>): Reply {
    if (this.#phase === 'running' || this.#phase === 'paused') return fault(AFTER_START).reply;
    if (this.#phase !== 'fresh')
      return fault(
        'Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources.',
      ).reply;
    try {
      const parsed = savedState.safeParse(parseJson(readFileSync(request.snapshot_path, 'utf8')));
      if (!parsed.success)
        throw fault(
          'Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from file: crc64 validation failed',
        );
      const state = parsed.data;
      if (state.version !== this.#version)
        throw fault(
          `Load snapshot error: Failed to restore from snapshot: Data version (${state.version}) not supported`,
        );
      for (const drive of state.drives)
        this.#open(drive.path, 'Load snapshot error: Block device restore', !drive.readOnly);
      for (const { tap } of state.networks)
        if (!hasInterface(tap)) throw fault(`Load snapshot error: Open tap device failed: ${tap}`);
      this.#open(request.mem_backend.backend_path, 'Load snapshot error: Failed to load guest memory');
      const memory = GuestMemory.mapped(request.mem_backend.backend_path);
      if (memory.pageCount * 4096 !== state.memoryMib * 2 ** 20)
        throw fault('Load snapshot error: Failed to load guest memory: the file is of another size');
      this.#memory = memory;
      this.#drives = new Map(state.drives.map(({ id, path, readOnly }) => [id, { path, readOnly }]));
      this.#networks = new Map(state.networks.map(({ id, tap }) => [id, tap]));
      this.#mmdsState = state.networks.length > 0 ? 'configured' : 'absent';
      this.#balloonMib = state.balloonMib;
      this.#machine = {
        vcpu_count: state.vcpuCount,
        mem_size_mib: state.memoryMib,
        track_dirty_pages: request.track_dirty_pages ?? request.enable_diff_snapshots ?? false,
      };
      this.#phase = 'paused';
      if (request.resume_vm === true) this.#setRunning(true);
      return { status: 204 };
    } catch (error) {
      // A load that failed ends the real one, after its answer.
      setTimeout(() => process.exit(1), 20);
      throw error;
    }
  }

  #open(path: string, what: string, writable = false): void {
    if (!existsSync(path)) throw fault(`${what}: No such file or directory (os error 2) ${path}`);
    accessSync(path, writable ? constants.R_OK | constants.W_OK : constants.R_OK);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** In the network namespace that this process is in. */
export function hasInterface(name: string): boolean {
  return readFileSync('/proc/self/net/dev', 'utf8')
    .split('\n')
    .some((line) => line.trim().startsWith(`${name}:`));
}
