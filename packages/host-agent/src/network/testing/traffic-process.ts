import { z } from 'zod';
import { Traffic } from './traffic.ts';

// Started by remote-traffic.ts inside a network namespace; ends with its parent.
const traffic = new Traffic();
const address = z.string();
const port = z.int();
const text = z.string();

const question = z.object({ id: z.int(), method: z.string(), args: z.array(z.unknown()) });

const METHODS: Readonly<Record<string, (args: readonly unknown[]) => unknown>> = {
  listenTcp: (args) => traffic.listenTcp(...z.tuple([address, port]).parse(args)),
  listenUdp: (args) => traffic.listenUdp(...z.tuple([address, port]).parse(args)),
  heard: () => traffic.heard(),
  speak: (args) => traffic.speak(...z.tuple([text]).parse(args)),
  askTcp: (args) => traffic.askTcp(...z.tuple([address, port, text]).parse(args)),
  askUdp: (args) => traffic.askUdp(...z.tuple([address, port, text]).parse(args)),
  sayUdp: (args) => traffic.sayUdp(...z.tuple([address, port, text, address.optional()]).parse(args)),
  open: (args) => traffic.open(...z.tuple([text, address, port]).parse(args)),
  write: (args) => traffic.write(...z.tuple([text, text]).parse(args)),
  endOurs: (args) => traffic.endOurs(...z.tuple([text]).parse(args)),
  waitForEnd: (args) => traffic.waitForEnd(...z.tuple([text]).parse(args)),
  textOf: (args) => traffic.textOf(...z.tuple([text]).parse(args)),
  waitFor: (args) => traffic.waitFor(...z.tuple([text, text]).parse(args)),
};

async function answer(message: unknown): Promise<void> {
  const { id, method, args } = question.parse(message);
  try {
    process.send?.({ id, value: await METHODS[method]?.(args) });
  } catch (error) {
    process.send?.({ id, value: undefined, error: error instanceof Error ? error.message : String(error) });
  }
}

process.on('message', (message) => void answer(message));
process.on('disconnect', () => process.exit());
process.send?.('ready');
