import { access, constants } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import type { VmmDescription, VmmName } from '../driver.ts';
import { askVersion, findProgram, type ProgramIdentity, type ProgramVersion, type VmmProgram } from './program.ts';

/** Whether KVM runs guests here, with the reason as a sentence for users. */
export interface UsableKvm {
  readonly works: boolean;
  readonly reason: string;
}

/** A VMM that runs guests on KVM alone, as an installation has it. */
export interface KvmHostOptions {
  /** Asked once and remembered. */
  readonly askKvm: () => Promise<UsableKvm>;
  /** A name in PATH, or a path; a stand-in is a whole program with the files that it needs. */
  readonly program?: string | VmmProgram;
  /** Default: /dev/kvm. */
  readonly kvmDevice?: string;
}

const KVM_DEVICE = '/dev/kvm';

/** What is asked of this host before such a VMM is started. */
export class KvmHost<Version extends ProgramVersion> {
  readonly #identity: ProgramIdentity<Version>;
  readonly #options: KvmHostOptions;
  readonly kvmDevice: string;
  #answer: Promise<{ readonly version: Version; readonly kvm: UsableKvm }> | undefined;

  constructor(identity: ProgramIdentity<Version>, options: KvmHostOptions) {
    this.#identity = identity;
    this.#options = options;
    this.kvmDevice = options.kvmDevice ?? KVM_DEVICE;
  }

  program(): Promise<VmmProgram> {
    return findProgram(this.#identity, this.#options.program);
  }

  /** Shared by all who ask; a failure is not remembered, since a user may mend it at any moment. */
  ask(): Promise<{ readonly version: Version; readonly kvm: UsableKvm }> {
    const ask = async () => {
      const { command } = await this.program();
      return { version: await askVersion(command, this.#identity.parseVersion), kvm: await this.#options.askKvm() };
    };
    this.#answer ??= ask().catch((error: unknown) => {
      this.#answer = undefined;
      throw error;
    });
    return this.#answer;
  }

  async describe(vmm: VmmName): Promise<VmmDescription> {
    const { version, kvm } = await this.ask();
    const accelerator = kvm.works ? 'kvm' : 'none';
    const reason = kvm.works ? kvm.reason : `${this.#identity.label} needs KVM, which cannot be used: ${kvm.reason}`;
    return { vmm, version: version.text, accelerator, reason };
  }

  /** Throws not_set_up or not_supported when no VM can run here. */
  async require(): Promise<{ readonly program: VmmProgram; readonly version: Version }> {
    const { label } = this.#identity;
    await access(this.kvmDevice, constants.R_OK | constants.W_OK).catch((cause: unknown) => {
      throw new NestboxError('not_set_up', `${label} needs KVM, and ${this.kvmDevice} cannot be opened.`, { cause });
    });
    const { version, kvm } = await this.ask();
    if (!kvm.works) throw new NestboxError('not_set_up', `${label} needs KVM, which cannot be used: ${kvm.reason}`);
    return { program: await this.program(), version };
  }
}

/** Whether a VMM could run VMs here. `reason` is a sentence for users. */
export interface VmmAnswer {
  readonly works: boolean;
  readonly reason: string;
}

/** Looks for the program, its version and KVM, in this order, and stops at what is missing. Never throws. */
export async function examineVmm(identity: ProgramIdentity, options: KvmHostOptions): Promise<VmmAnswer> {
  const host = new KvmHost(identity, options);
  const { label, binary } = identity;
  try {
    await host.program();
  } catch {
    return { works: false, reason: `there is no program ${String(options.program ?? binary)}.` };
  }
  try {
    const { version, kvm } = await host.ask();
    return kvm.works
      ? { works: true, reason: `${label} ${version.text} and a KVM that works are there.` }
      : { works: false, reason: `${label} ${version.text} is there, but KVM cannot be used: ${kvm.reason}` };
  } catch (error) {
    return { works: false, reason: error instanceof Error ? error.message : String(error) };
  }
}
