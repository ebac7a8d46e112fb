import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { attempt } from '../attempt.ts';
import type { AgentContext } from '../context.ts';
import { nameMachine } from '../init/host-identity.ts';
import { forgetHost, setHost } from '../init/hosts-file.ts';
import { editFile } from '../system/edit-file.ts';
import type { InitRequest } from './init-request.ts';

/** Our variables have three spellings. */
const PREFIXES = ['E2B', 'NESTBOX', 'WRENN'] as const;
const EVENTS_HOST = 'events.e2b.local';

type Names = Pick<InitRequest, 'sandboxId' | 'templateId' | 'proxyDomain' | 'hyperloopIp'>;

/**
 * How programs learn in which sandbox they are: by variables, by files, by the machine's name. Nothing waits for another
 * thread: the writes are small, and go to memory.
 */
export class SandboxIdentity {
  readonly #context: AgentContext;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  /** Writes the file by which programs learn that they run in a sandbox at all. */
  announce(): void {
    this.#writeFile('E2B_SANDBOX', 'true');
  }

  /**
   * Tells what the host names, by variables; the returned function does so by files and by the machine's name. For
   * another sandbox than before (a restored VM), nothing stays of what the host does not name.
   */
  tell({ sandboxId, templateId, proxyDomain, hyperloopIp }: Names): () => void {
    const { state } = this.#context;
    const before = state.internalEnv('E2B_SANDBOX_ID');
    const isAnother = sandboxId !== undefined && before !== undefined && before !== sandboxId;
    const writes: (() => void)[] = [];
    if (sandboxId !== undefined) {
      this.#setId('SANDBOX_ID', sandboxId);
      writes.push(
        () => this.#writeFile('E2B_SANDBOX_ID', sandboxId),
        () => this.#onMachine('naming the machine', () => nameMachine(sandboxId)),
      );
    }
    if (templateId !== undefined || isAnother) {
      this.#setId('TEMPLATE_ID', templateId);
      writes.push(() => this.#writeFile('E2B_TEMPLATE_ID', templateId));
    }
    if (proxyDomain !== undefined || isAnother) state.setInternalEnv('NESTBOX_PROXY_DOMAIN', proxyDomain);
    if (hyperloopIp !== undefined) {
      state.setInternalEnv('E2B_EVENTS_ADDRESS', `http://${hyperloopIp}`);
      writes.push(() => this.#onMachine('writing /etc/hosts', () => setHost('events', hyperloopIp, EVENTS_HOST)));
    } else if (isAnother && state.internalEnv('E2B_EVENTS_ADDRESS') !== undefined) {
      state.setInternalEnv('E2B_EVENTS_ADDRESS', undefined);
      writes.push(() => this.#onMachine('writing /etc/hosts', () => forgetHost('events')));
    }
    return () => {
      for (const write of writes) write();
    };
  }

  #setId(name: 'SANDBOX_ID' | 'TEMPLATE_ID', id: string | undefined): void {
    for (const prefix of PREFIXES) this.#context.state.setInternalEnv(`${prefix}_${name}`, id);
  }

  /** A machine that is not the agent's own stays as it is. */
  #onMachine(what: string, step: () => void): void {
    if (this.#context.isInit) attempt(what, step);
  }

  #writeFile(name: string, value: string | undefined): void {
    const { runtimeDir } = this.#context;
    const path = join(runtimeDir, `.${name}`);
    attempt(`writing ${path}`, () => {
      if (value === undefined) {
        rmSync(path, { force: true });
        return;
      }
      try {
        editFile(path, () => value);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
        mkdirSync(runtimeDir, { recursive: true });
        editFile(path, () => value);
      }
    });
  }
}
