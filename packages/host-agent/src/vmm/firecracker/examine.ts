import { programPath } from '../program-path.ts';
import { FIRECRACKER_BINARY, type UsableKvm } from './firecracker-driver.ts';
import { askFirecrackerVersion } from './version.ts';

/** Whether Firecracker could run VMs here. `reason` is a sentence for users. */
export interface FirecrackerAnswer {
  readonly works: boolean;
  readonly reason: string;
}

/** Looks for the program, its version and KVM, in this order, and stops at what is missing. Never throws. */
export async function examineFirecracker(
  binary: string = FIRECRACKER_BINARY,
  askKvm: () => Promise<UsableKvm>,
): Promise<FirecrackerAnswer> {
  let path: string;
  try {
    path = await programPath(binary);
  } catch {
    return { works: false, reason: `there is no program ${binary}.` };
  }
  try {
    const version = await askFirecrackerVersion([path]);
    const kvm = await askKvm();
    return kvm.works
      ? { works: true, reason: `Firecracker ${version} and a KVM that works are there.` }
      : { works: false, reason: `Firecracker ${version} is there, but KVM cannot be used: ${kvm.reason}` };
  } catch (error) {
    return { works: false, reason: error instanceof Error ? error.message : String(error) };
  }
}
