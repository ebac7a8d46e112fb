import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { NestboxPaths } from '@nestbox/kit';
import { currentImages } from '../storage/images-file.ts';
import { hostLayout } from '../storage/layout.ts';
import { checkSetup } from './check-setup.ts';
import { pathExists } from './path-exists.ts';
import { runSetUp } from './set-up.ts';
import type { StepContext } from './setup-parts.ts';
import { SETUP_STEPS, type SetupProgress, type SetupStep } from './setup-types.ts';
import { eventually, processesNamed, processesWith } from './testing/process-tree.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';
import { TINY_KERNEL, tinyParts } from './testing/tiny-parts.ts';

const STEPS: readonly SetupStep[] = ['packages', 'kernel', 'initrd', 'agent-disk', 'base-template'];

async function preparePaths(t: TestContext): Promise<NestboxPaths> {
  const folder = await temporaryFolder(t);
  return { stateDir: join(folder, 'state'), runDir: join(folder, 'run'), instance: '000000' };
}

interface RunOptions {
  readonly interrupt?: (step: SetupStep, context: StepContext) => Promise<void>;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: SetupProgress) => void;
}

async function run(paths: NestboxPaths, { interrupt = async () => {}, signal, onProgress }: RunOptions = {}) {
  const events: SetupProgress[] = [];
  const images = await runSetUp(
    {
      paths,
      agentSources: [],
      buildAgentBundle: () => Promise.reject(new Error('the tiny steps need no bundle')),
      onProgress: (event) => {
        events.push(event);
        onProgress?.(event);
      },
      ...(signal && { signal }),
    },
    tinyParts(interrupt),
  );
  return { images, events, ends: events.filter(({ state }) => state === 'done' || state === 'skipped') };
}

test('a set-up makes everything, tells each step, and leaves no work behind', async (t) => {
  const paths = await preparePaths(t);
  const { images, events, ends } = await run(paths);
  const layout = hostLayout(paths);
  assert.deepEqual(
    events.filter(({ state }) => state === 'started').map(({ step, title }) => [step, title]),
    STEPS.map((step) => [step, SETUP_STEPS[step]]),
  );
  assert.deepEqual(
    ends.map(({ state }) => state),
    ['skipped', 'done', 'done', 'done', 'done'],
  );
  assert.ok(ends.every(({ elapsedMs }) => Number.isInteger(elapsedMs)));
  assert.equal(images.kernelVersion, TINY_KERNEL);
  assert.deepEqual(currentImages.parse(JSON.parse(await readFile(layout.currentImages, 'utf8'))), images);
  assert.equal(await pathExists(layout.setupWorkDir), false);
  const check = await checkSetup(paths);
  assert.deepEqual(check.images, images);
  assert.deepEqual(
    check.missing.filter(({ step }) => step !== 'packages'),
    [],
  );
});

test('a second set-up finds everything there', async (t) => {
  const paths = await preparePaths(t);
  const first = await run(paths);
  const second = await run(paths);
  assert.deepEqual(second.images, first.images);
  assert.ok(second.ends.every(({ state }) => state === 'skipped'));
});

test('what an earlier set-up made and nothing boots any more is removed', async (t) => {
  const paths = await preparePaths(t);
  const { images } = await run(paths);
  const layout = hostLayout(paths);
  const earlier = [
    layout.agentDisk('earlier'),
    join(layout.kernelDir(TINY_KERNEL), 'initrd-earlier.cpio'),
    join(layout.kernelDir('6.0.0-test_1'), 'vmlinuz'),
  ];
  await mkdir(layout.kernelDir('6.0.0-test_1'));
  for (const path of earlier) await writeFile(path, 'earlier');
  await run(paths);
  for (const path of earlier) assert.equal(await pathExists(path), false, path);
  assert.deepEqual(await readdir(layout.kernelsDir), [TINY_KERNEL]);
  for (const path of [images.kernelPath, images.initrdPath, images.agentDiskPath])
    assert.equal(await pathExists(path), true, path);
  assert.deepEqual((await readdir(layout.kernelDir(TINY_KERNEL))).toSorted(), ['initrd-0.cpio', 'lib', 'vmlinuz']);
});

for (const [index, failing] of STEPS.entries()) {
  test(`a failure in the step ${failing} is told, leaves no work behind, and the next set-up goes on from there`, async (t) => {
    const paths = await preparePaths(t);
    const layout = hostLayout(paths);
    const interrupt = async (step: SetupStep) => {
      if (step === failing) throw new Error('the disk caught fire');
    };
    await assert.rejects(run(paths, { interrupt }), { name: 'NestboxError', code: 'internal', message: /caught fire/ });
    assert.equal(await pathExists(layout.setupWorkDir), false);
    assert.equal(await pathExists(layout.currentImages), false);
    assert.equal((await checkSetup(paths)).complete, false);
    const { ends } = await run(paths);
    assert.deepEqual(
      ends.map(({ state }) => state),
      STEPS.map((_, position) => (position === 0 || position < index ? 'skipped' : 'done')),
    );
  });
}

test('a disk that is full is told as such', async (t) => {
  const paths = await preparePaths(t);
  const interrupt = async () => {
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  };
  await assert.rejects(run(paths, { interrupt }), { code: 'host_disk_full' });
});

test('a step that an abort ends says that, not what its tools said', async (t) => {
  const abort = new AbortController();
  const seen: SetupProgress[] = [];
  const reason = new Error('enough');
  const interrupt = async () => {
    abort.abort(reason);
    throw new Error('the tool: I was killed');
  };
  const onProgress = (event: SetupProgress) => void seen.push(event);
  await assert.rejects(run(await preparePaths(t), { interrupt, signal: abort.signal, onProgress }), { cause: reason });
  assert.deepEqual([seen.at(-1)?.state, seen.at(-1)?.detail], ['failed', 'enough']);
});

test('an abort ends the set-up before the next step', async (t) => {
  const paths = await preparePaths(t);
  const abort = new AbortController();
  const reached: SetupStep[] = [];
  const interrupt = async (step: SetupStep) => {
    reached.push(step);
    if (step === 'initrd') abort.abort();
  };
  await assert.rejects(run(paths, { interrupt, signal: abort.signal }), { code: 'deadline_exceeded' });
  assert.deepEqual(reached, ['packages', 'kernel', 'initrd']);
  assert.equal(await pathExists(hostLayout(paths).setupWorkDir), false);
});

test('two set-ups of one state folder: the second is told, and does not disturb the first', async (t) => {
  const paths = await preparePaths(t);
  const interrupt = async (step: SetupStep) => {
    if (step === 'kernel') await assert.rejects(run(paths), { code: 'conflict' });
  };
  const { ends } = await run(paths, { interrupt });
  assert.equal(ends.length, STEPS.length);
});

for (const killed of STEPS) {
  test(`kill -9 in the step ${killed} leaves no process and no mount, and the next set-up repairs what is there`, {
    skip: process.geteuid?.() !== 0 && 'needs root to make namespaces',
  }, async (t) => {
    const paths = await preparePaths(t);
    const layout = hostLayout(paths);
    const marker = `${paths.stateDir}/hanging-${killed}`;
    const script = `
        import { mkdir } from 'node:fs/promises';
        import { runSetUp } from ${JSON.stringify(import.meta.resolve('./set-up.ts'))};
        import { tinyParts } from ${JSON.stringify(import.meta.resolve('./testing/tiny-parts.ts'))};
        import { runContained } from ${JSON.stringify(import.meta.resolve('./contained-command.ts'))};
        const interrupt = async (step, { workDir }) => {
          if (step !== ${JSON.stringify(killed)}) return;
          await mkdir(workDir + '/mnt');
          await runContained('bash', ['-c', 'mount -t tmpfs none ' + workDir + '/mnt && exec -a ${marker} sleep 1000']);
        };
        await runSetUp({
          paths: ${JSON.stringify(paths)}, agentSources: [], buildAgentBundle: undefined, onProgress: () => {},
        }, tinyParts(interrupt));`;
    const setUp = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
    t.after(() => setUp.kill('SIGKILL'));
    await eventually(() => processesNamed(marker).length > 0, 'the step runs');
    await assert.rejects(run(paths), { code: 'conflict' });
    const gone = once(setUp, 'close');
    setUp.kill('SIGKILL');
    await gone;

    await eventually(
      () => processesWith(paths.stateDir).length === 0,
      'no process left, the holder of the lock included',
    );
    assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(paths.stateDir));
    assert.ok(await pathExists(join(layout.setupWorkDir, 'mnt')));
    assert.equal(await pathExists(layout.currentImages), false);
    const { ends } = await run(paths);
    assert.equal(ends.length, STEPS.length);
    assert.equal(await pathExists(layout.setupWorkDir), false);
    assert.equal((await checkSetup(paths)).images?.kernelVersion, TINY_KERNEL);
  });
}

test('images that are cut short or gone are missing, and are made again', async (t) => {
  const paths = await preparePaths(t);
  const layout = hostLayout(paths);
  const { images } = await run(paths);
  await writeFile(layout.currentImages, '{"kernelVersion": "6.');
  assert.equal((await checkSetup(paths)).complete, false);
  assert.deepEqual((await run(paths)).images, images);
  await rm(images.initrdPath);
  assert.deepEqual(
    (await checkSetup(paths)).missing.filter(({ step }) => step !== 'packages').map(({ step }) => step),
    ['initrd'],
  );
  const { ends } = await run(paths);
  assert.deepEqual(
    ends.filter(({ state }) => state === 'done').map(({ step }) => step),
    ['initrd'],
  );
});

test('without root one is told what to run, and nothing is made', async (t) => {
  const paths = await preparePaths(t);
  const script = `
    import { setUp } from ${JSON.stringify(import.meta.resolve('./set-up.ts'))};
    process.seteuid(65534);
    await setUp({ paths: ${JSON.stringify(paths)}, agentSources: [], buildAgentBundle: undefined, onProgress: console.log })
      .catch((error) => console.log(error.code, error.message));`;
  if (process.geteuid?.() !== 0) return t.skip('needs root to become somebody else');
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child.stdout.setEncoding('utf8');
  let output = '';
  child.stdout.on('data', (text: string) => {
    output += text;
  });
  await once(child, 'close');
  assert.match(output, /^not_set_up .*sudo npx nestbox setup/);
  assert.equal(await pathExists(paths.stateDir), false);
});
