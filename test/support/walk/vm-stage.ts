import { Sandbox } from 'e2b';
import { answerOf } from '../answer-of.ts';
import { findLeftovers, vmProcesses } from '../leftovers.ts';
import { startServer, type TestServer } from '../server.ts';
import { makeStateFolder } from '../state-folder.ts';
import { recordedStates } from './recorded-states.ts';
import { TIMEOUT_SEC } from './walk-moves.ts';
import { DISK_PLACES, type WalkStage } from './walk-stage.ts';

const WORD = '/dev/shm/word';
const PLACE = '/home/user/place-';
const READ = [
  `cat ${WORD} 2>/dev/null; echo`,
  `for place in ${[...new Array(DISK_PLACES).keys()].join(' ')}; do cat ${PLACE}$place 2>/dev/null || echo -n 0; echo; done`,
].join('; ');

export interface VmStage extends WalkStage, AsyncDisposable {
  /** What the kernel and the disk have; to be asked when no server runs. */
  leftovers(): Promise<string[]>;
}

/** A `nestbox up` with real VMs. What is in them is read and written by the e2b client. */
export async function startVmStage(): Promise<VmStage> {
  await using undo = new AsyncDisposableStack();
  const paths = undo.use(await makeStateFolder());
  let server: TestServer | undefined;
  const running = () => {
    if (server === undefined) throw new Error('no server runs');
    return server;
  };
  const start = async () => {
    server = await startServer(paths, ['--keep-sandboxes']);
  };
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    const ending = running();
    server = undefined;
    const outcome = await ending.end(signal);
    if (outcome !== (signal === 'SIGTERM' ? 0 : signal)) throw new Error(`it ended with ${outcome}: ${ending.log()}`);
  };
  undo.defer(async () => {
    if (server !== undefined) await end('SIGTERM');
    // Of a walk that has failed: one that does not keep its sandboxes takes them along.
    if (vmProcesses(paths).length > 0) await (await startServer(paths)).end('SIGTERM');
  });
  await start();
  /** Clients of the server that runs, by sandbox. */
  const clients = new Map<string, { readonly server: TestServer; readonly client: Promise<Sandbox> }>();
  const clientOf = (sandboxId: string): Promise<Sandbox> => {
    const known = clients.get(sandboxId);
    if (known?.server === running()) return known.client;
    const client = Sandbox.connect(sandboxId, { ...running().connection, timeoutMs: TIMEOUT_SEC * 1000 });
    clients.set(sandboxId, { server: running(), client });
    return client;
  };
  const disposal = undo.move();
  return {
    start,
    end,
    call: (method, path, body) => answerOf(running().apiUrl, running().apiKey, method, path, body),
    async remember(sandboxId, word) {
      await (await clientOf(sandboxId)).files.write(WORD, word);
    },
    async write(sandboxId, place, value) {
      await (await clientOf(sandboxId)).files.write(`${PLACE}${place}`, String(value));
    },
    async read(sandboxId) {
      const { stdout } = await (await clientOf(sandboxId)).commands.run(READ);
      const [memory = '', ...places] = stdout.trimEnd().split('\n');
      return { memory, disk: places.map(Number) };
    },
    recordedStates: () => recordedStates(paths.stateDir),
    leftovers: () => findLeftovers(paths),
    [Symbol.asyncDispose]: () => disposal.disposeAsync(),
  };
}
