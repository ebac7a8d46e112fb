import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GuestPlan } from './plan.ts';

/** What runs in a guest that does not exist: a program that comes and goes with the VM, and stands still with it. */
export class GuestProgram {
  readonly #command: readonly string[];
  #child: ChildProcess | undefined;
  /** It has said that it listens. */
  #listens: Promise<void> | undefined;

  private constructor(command: readonly string[]) {
    this.#command = command;
  }

  /** Undefined when the plan has no program for this VM. */
  static of(plan: GuestPlan | undefined, vmId: string): GuestProgram | undefined {
    if (plan === undefined) return undefined;
    const address = readFileSync(join(plan.addressDir, vmId), 'utf8');
    return new GuestProgram([...plan.command, address, readFileSync(join(plan.addressDir, 'mood'), 'utf8')]);
  }

  /** To be called after each request that has been carried out. */
  async follow(method: string, path: string, body: unknown): Promise<void> {
    switch (`${method} ${path}`) {
      case 'PUT /actions':
      case 'PUT /api/v1/vm.boot':
        this.#start();
        return;
      case 'PUT /snapshot/load':
      case 'PUT /api/v1/vm.restore':
        this.#start();
        // It listened already when it was saved.
        await this.#listens;
        this.#child?.kill('SIGSTOP');
        return;
      case 'PATCH /vm':
        this.#child?.kill(Object(body).state === 'Paused' ? 'SIGSTOP' : 'SIGCONT');
        return;
      case 'PUT /api/v1/vm.pause':
        this.#child?.kill('SIGSTOP');
        return;
      case 'PUT /api/v1/vm.resume':
        this.#child?.kill('SIGCONT');
    }
  }

  #start(): void {
    const [program = '', ...args] = this.#command;
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], cwd: '/' });
    this.#child = child;
    this.#listens = once(child.stdout, 'data').then(() => undefined);
    // The guest's serial console is the VMM's standard output.
    child.stdout.pipe(process.stdout, { end: false });
    // As of a guest whose first program ends.
    child.once('exit', () => process.exit(0));
  }
}
