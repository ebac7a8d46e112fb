import assert from 'node:assert/strict';
import { type FilesystemEvent, FilesystemEventType, type Sandbox } from 'e2b';
import type { ShowStep } from './screen.ts';
import { CENSUS_PROGRAM, censusOfSources } from './source-census.ts';

/** Shows on a sandbox what the e2b client can do with it. Every step checks what it got. */
export async function tour(sandbox: Sandbox, sandboxUrl: string, showStep: ShowStep): Promise<void> {
  await showStep('Look around inside', async (say) => {
    const { stdout } = await sandbox.commands.run(
      `. /etc/os-release; echo "$PRETTY_NAME, kernel $(uname -r), $(nproc) CPU, user $(whoami)"; python3 --version; node --version`,
    );
    say(stdout);
  });

  await showStep('Run a Python program on real input: the sources of this checkout', async (say) => {
    const census = await censusOfSources();
    await sandbox.files.write([
      { path: 'sources.csv', data: census.csv },
      { path: 'census.py', data: CENSUS_PROGRAM },
    ]);
    say(`wrote sources.csv (${census.csv.length} bytes) and census.py`);
    const { stdout } = await sandbox.commands.run('python3 census.py sources.csv');
    say(stdout);
    assert.match(stdout, new RegExp(`^total ${census.fileCount} ${census.lineCount}$`, 'm'));
  });

  await showStep("Stream a command's output as it comes", async (say) => {
    let lineCount = 0;
    await sandbox.commands.run('for i in 1 2 3 4; do echo "line $i, said at $(date +%T.%3N)"; sleep 0.4; done', {
      onStdout: (text) => {
        lineCount += text.split('\n').length - 1;
        say(text);
      },
    });
    assert.equal(lineCount, 4);
  });

  await showStep('Write, read, list and watch files', async (say) => {
    const events: FilesystemEvent[] = [];
    const { promise: seen, resolve } = Promise.withResolvers<void>();
    await sandbox.files.makeDir('notes');
    const watcher = await sandbox.files.watchDir('notes', (event) => {
      events.push(event);
      if (event.type === FilesystemEventType.REMOVE) resolve();
    });
    await sandbox.files.write('notes/hello.txt', 'Grüße aus der Sandbox 🎉\n');
    say(`read:  ${await sandbox.files.read('notes/hello.txt')}`);
    await sandbox.files.rename('notes/hello.txt', 'notes/renamed.txt');
    const entries = await sandbox.files.list('notes');
    assert.deepEqual(
      entries.map(({ name }) => name),
      ['renamed.txt'],
    );
    for (const { permissions, owner, size, path } of entries) say(`list:  ${permissions} ${owner} ${size} ${path}`);
    await sandbox.files.remove('notes/renamed.txt');
    await seen;
    await watcher.stop();
    say(`watch: ${events.map(({ type, name }) => `${type} ${name}`).join(', ')}`);
  });

  await showStep('Open a terminal (PTY) and type into it', async (say) => {
    let shown = '';
    const terminal = await sandbox.pty.create({
      cols: 80,
      rows: 24,
      onData: (bytes) => {
        shown += Buffer.from(bytes).toString('utf8');
      },
    });
    const type = (text: string) => sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode(text));
    await sandbox.pty.resize(terminal.pid, { cols: 120, rows: 40 });
    await type('tty; stty size; echo $((6 * 7))\n');
    await type('exit\n');
    await terminal.wait();
    say(withoutEscapes(shown));
    assert.match(shown, /\r\n40 120\r\n42\r\n/);
  });

  await showStep('Reach a web server in the sandbox from outside', async (say) => {
    const server = await sandbox.commands.run('exec python3 -m http.server 8000 --directory /etc', {
      background: true,
      timeoutMs: 0,
    });
    const response = await fetchPatiently(`${sandboxUrl}/debian_version`, {
      'E2b-Sandbox-Id': sandbox.sandboxId,
      'E2b-Sandbox-Port': '8000',
    });
    assert.equal(response.status, 200);
    say(`GET /debian_version from port 8000 of the sandbox: ${(await response.text()).trim()}`);
    await server.kill();
  });

  const count = async (of: Sandbox) => Number(await of.files.read('/dev/shm/count'));
  await showStep('Pause it with its memory, and let it go on', async (say) => {
    const counter = await sandbox.commands.run(
      'n=0; while true; do n=$((n+1)); echo $n > /dev/shm/count; sleep 0.1; done',
      { background: true, timeoutMs: 0 },
    );
    // It goes on without anybody who listens. A pause gives a listener that has just come some time to leave.
    await counter.disconnect();
    await sandbox.commands.run('sleep 0.5');
    const before = await count(sandbox);
    const pausingMs = Date.now();
    await sandbox.pause();
    const pausedMs = Date.now();
    await sandbox.connect();
    say(
      `a program has counted to ${before}; pausing took ${pausedMs - pausingMs} ms, resuming ${Date.now() - pausedMs} ms`,
    );
    await sandbox.commands.run('sleep 0.5');
    const after = await count(sandbox);
    assert.ok(after > before);
    say(`it goes on, at ${after} now`);
  });

  await showStep('Fork it twice while it runs', async (say) => {
    const copies = await sandbox.fork({ count: 2 });
    for (const copy of copies) {
      if (copy instanceof Error) throw copy;
      say(`${copy.sandboxId} counts on from the same moment, at ${await count(copy)} now`);
      await copy.kill();
    }
  });
}

/** The server needs a moment until it listens; until then the edge answers 502. */
async function fetchPatiently(url: string, headers: Record<string, string>): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(url, { headers });
    if (response.status !== 502 || attempt === 10) return response;
  }
}

/** What a terminal would show of it: no colours, titles and bracketed-paste marks. */
function withoutEscapes(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are made of them
  return text.replace(/\x1b\][^\x07]*\x07|\x1b\[[0-9;?]*[A-Za-z]/g, '').replaceAll('\r', '');
}
