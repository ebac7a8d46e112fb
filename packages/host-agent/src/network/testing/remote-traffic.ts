import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { z } from 'zod';
import type { Traffic } from './traffic.ts';

const answer = z.object({ id: z.int(), value: z.unknown().optional(), error: z.string().optional() });
const texts = z.array(z.string());
const text = z.string();

/** A Traffic in another network namespace: a process of its own, asked over its IPC channel. */
export class RemoteTraffic {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #lastId = 0;

  static async start(netnsName: string): Promise<RemoteTraffic> {
    const program = join(import.meta.dirname, 'traffic-process.ts');
    const child = spawn('nsenter', [`--net=/run/netns/${netnsName}`, '--', process.execPath, program], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    await once(child, 'message');
    return new RemoteTraffic(child);
  }

  private constructor(child: ChildProcess) {
    this.#process = child;
    child.on('message', (message) => {
      const { id, value, error } = answer.parse(message);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new Error(error));
    });
    child.once('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the process has ended'));
    });
  }

  async listenTcp(address: string, port: number): Promise<void> {
    await this.#ask('listenTcp', address, port);
  }
  async listenUdp(address: string, port: number): Promise<void> {
    await this.#ask('listenUdp', address, port);
  }
  async heard(): Promise<string[]> {
    return texts.parse(await this.#ask('heard'));
  }
  async speak(message: string): Promise<void> {
    await this.#ask('speak', message);
  }
  async askTcp(address: string, port: number, question: string): Promise<string> {
    return text.parse(await this.#ask('askTcp', address, port, question));
  }
  async askUdp(address: string, port: number, question: string): Promise<string> {
    return text.parse(await this.#ask('askUdp', address, port, question));
  }
  async sayUdp(address: string, port: number, message: string, from?: string): Promise<void> {
    await this.#ask('sayUdp', address, port, message, ...(from === undefined ? [] : [from]));
  }
  async open(name: string, address: string, port: number): Promise<void> {
    await this.#ask('open', name, address, port);
  }
  async write(name: string, message: string): Promise<void> {
    await this.#ask('write', name, message);
  }
  async endOurs(name: string): Promise<void> {
    await this.#ask('endOurs', name);
  }
  async waitForEnd(name: string): Promise<string> {
    return text.parse(await this.#ask('waitForEnd', name));
  }
  async textOf(name: string): Promise<string> {
    return text.parse(await this.#ask('textOf', name));
  }
  async waitFor(name: string, message: string): Promise<void> {
    await this.#ask('waitFor', name, message);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }

  #ask(method: keyof Traffic, ...args: (string | number)[]): Promise<unknown> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#process.send({ id, method, args });
    });
  }
}
