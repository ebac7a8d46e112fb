import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Sandbox } from 'e2b';
import type { TestServer } from '../test/support/server.ts';
import { type BareSnapshot, type BareState, bareRestore, syncState } from './bare-restore.ts';
import { describeSeries, type Measure } from './measure.ts';
import { Series, timed } from './series.ts';

/** What the first moments after a restore set in motion in the guest has come to rest. */
const IDLE_MS = 1000;

export async function measurePauseAndResume(
  server: TestServer,
  snapshot: BareSnapshot,
  rounds: number,
): Promise<Measure[]> {
  const sandbox = await Sandbox.create({ ...server.connection, timeoutMs: 600_000 });
  const pause = { ours: new Series(), floor: new Series(), written: new Series() };
  const resume = { ours: new Series(), floor: new Series() };
  let bare = await bareRestore(snapshot);
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-bare-state-'));
  try {
    for (let round = 0; round < rounds; round++) {
      await sleep(IDLE_MS);
      pause.ours.add(await timed(() => sandbox.pause()));
      resume.ours.add(
        await timed(() => Sandbox.connect(sandbox.sandboxId, { ...server.connection, timeoutMs: 600_000 })),
      );

      await sleep(IDLE_MS);
      let saved: BareState | undefined;
      const vm = bare;
      pause.floor.add(
        await timed(async () => {
          pause.written.add(
            await timed(async () => {
              saved = await vm.save();
            }),
          );
          if (saved !== undefined) await syncState(saved);
        }),
      );
      const state = await keep(saved, join(folder, String(round)));
      await bare[Symbol.asyncDispose]();
      resume.floor.add(
        await timed(async () => {
          bare = await bareRestore(snapshot, state);
        }),
      );
    }
  } finally {
    await bare[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
    await sandbox.kill();
  }
  return [
    {
      title: 'Pause, idle VM',
      ours: describeSeries(pause.ours, 'ms', 1),
      floor: describeSeries(pause.floor, 'ms', 1),
      judged: pause.ours.median / pause.floor.median,
      limit: { kind: 'at most', value: 2, unit: '×' },
      method:
        '`sandbox.pause()` of the e2b client until it returns, when the state is on the disk, against stop, device state and changed pages of a bare QEMU, written to files and synced. Both have been idle for a second after a resume.',
    },
    {
      title: 'Pause, idle VM, against a bare one that does not sync',
      ours: describeSeries(pause.ours, 'ms', 1),
      floor: describeSeries(pause.written, 'ms', 1),
      judged: pause.ours.median / pause.written.median,
      limit: { unit: '×' },
      method:
        'The same, but the bare one is done when its files are written: a loss of power would take its sandbox. Reported, not judged.',
    },
    {
      title: 'Connect to a paused sandbox',
      ours: describeSeries(resume.ours, 'ms'),
      floor: describeSeries(resume.floor, 'ms'),
      judged: resume.ours.median / resume.floor.median,
      limit: { kind: 'at most', value: 1.5, unit: '×' },
      method:
        '`Sandbox.connect()` until it returns, against a bare QEMU that gets the pages and the device state of its pause, until the agent answers `/health`.',
    },
  ];
}

/** The files go with the VM that wrote them. */
async function keep(state: BareState | undefined, folder: string): Promise<BareState> {
  if (state?.pagesPath === undefined) throw new Error('nothing was saved');
  const kept = { devicesPath: `${folder}.devices`, pagesPath: `${folder}.pages` };
  await cp(state.devicesPath, kept.devicesPath);
  await cp(state.pagesPath, kept.pagesPath);
  return kept;
}
