import type { VmMachine, VmSpec } from '../driver.ts';
import type { ProcessExit } from '../launch.ts';
import { type ApiMachine, apiMachine, type JailPlaces } from './api-machine.ts';
import type { ApiVm } from './api-vm.ts';
import { awaitGuest } from './await-guest.ts';

/** A VM manager with an API that is to be started for a machine. */
export interface ApiLaunch {
  readonly machine: VmMachine;
  /** First line of this start in the console log. */
  readonly consoleNote: string;
  /** Files that it reads besides the disks. */
  readonly readFiles: readonly { readonly hostPath: string; readonly jailPath: string }[];
}

/** A VM manager that runs; it has no VM yet. */
export interface LaunchedApi<Vm extends ApiVm> {
  readonly vm: Vm;
  /** Where this start's output begins in the console log, in bytes. */
  readonly consoleStart: number;
  readonly exited: Promise<ProcessExit>;
}

export interface ApiBoot<Vm extends ApiVm> {
  readonly spec: VmSpec;
  /** Time for the sign of life. */
  readonly limitMs: number;
  readonly places: JailPlaces;
  /** `undo` gets what ends it again and leaves nothing. */
  readonly launch: (launch: ApiLaunch, undo: AsyncDisposableStack) => Promise<LaunchedApi<Vm>>;
  /** Waits for the API, configures the machine and starts it. */
  readonly start: (vm: Vm, machine: ApiMachine) => Promise<void>;
}

/**
 * One boot. Undefined when the guest showed no sign of life in time. Then, and after any error, nothing is left of it.
 * Throws NestboxError (vm_died, host_disk_full, sandbox_unreachable, internal for a refusal), or the signal's reason.
 */
export async function bootByApi<Vm extends ApiVm>(boot: ApiBoot<Vm>, signal?: AbortSignal): Promise<Vm | undefined> {
  const { spec, limitMs, places } = boot;
  const { consolePath } = spec;
  signal?.throwIfAborted();
  await using undo = new AsyncDisposableStack();
  const { vm, consoleStart, exited } = await boot.launch(
    {
      machine: spec,
      consoleNote: '[nestbox: boot]',
      readFiles: [
        { hostPath: spec.kernelPath, jailPath: places.kernel },
        { hostPath: spec.initrdPath, jailPath: places.initrd },
      ],
    },
    undo,
  );
  try {
    await boot.start(vm, apiMachine(spec, places));
    // A guest that restarts in its boot is ended by its VM, where that has to look for it, and so heard of here.
    if (!(await awaitGuest({ consolePath, consoleStart, exited, limitMs }, signal))) return undefined;
  } catch (error) {
    signal?.throwIfAborted();
    throw await vm.explainFailure(error, { path: consolePath, start: consoleStart });
  }
  undo.move();
  return vm;
}
