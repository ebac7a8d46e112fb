import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { GUEST_AGENT_PORT } from '@nestbox/contract';
import { hostLayout } from '@nestbox/host-agent/storage';
import type { NestboxPaths } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { z } from 'zod';
import { requestByHost } from './edge-request.ts';
import type { TestServer } from './server.ts';

/**
 * Keeps everything that a pause might lose: memory, a file on the disk that is open and not synced, one on a tmpfs, a TCP
 * connection inside the guest, a timer. `GET /step` checks all of it, then changes all of it, and answers hashes of before
 * and after.
 */
const KEEPER = `
import hashlib, http.server, json, os, socket, threading, time
size = 8 << 20
memory = bytearray(os.urandom(size))
disk = open('/home/user/keeper.bin', 'w+b', buffering=0)
disk.write(os.urandom(size))
shm = open('/dev/shm/keeper.bin', 'w+b', buffering=0)
shm.write(os.urandom(size))
listener = socket.create_server(('127.0.0.1', 7001))
client = socket.create_connection(('127.0.0.1', 7001))
server, _ = listener.accept()
ticks = [0]
def tick():
    while True:
        time.sleep(0.05)
        ticks[0] += 1
threading.Thread(target=tick, daemon=True).start()
def hash_of(file):
    file.seek(0)
    return hashlib.blake2b(file.read()).hexdigest()
def state():
    return [hashlib.blake2b(memory).hexdigest(), hash_of(disk), hash_of(shm)]
def change(file, at):
    file.seek(at)
    file.write(os.urandom(4096))
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        before = state()
        client.sendall(b'ping')
        echo = server.recv(4)
        server.sendall(echo)
        tcp = client.recv(4) == b'ping'
        for _ in range(64):
            at = int.from_bytes(os.urandom(4), 'little') % (size - 4096)
            memory[at:at + 4096] = os.urandom(4096)
        change(disk, int.from_bytes(os.urandom(4), 'little') % (size - 4096))
        change(shm, int.from_bytes(os.urandom(4), 'little') % (size - 4096))
        body = json.dumps({'before': before, 'after': state(), 'tcp': tcp, 'ticks': ticks[0]}).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(('0.0.0.0', 7000), Handler).serve_forever()
`;

const step = z.object({
  before: z.array(z.string()).length(3),
  after: z.array(z.string()).length(3),
  tcp: z.boolean(),
  ticks: z.int(),
});

const runningRecord = z.object({
  accessToken: z.string().optional(),
  situation: z.object({ slot: z.object({ hostReachableAddress: z.string() }) }),
});

export interface SoakReport {
  readonly cycles: number;
  /** What was not as it had been left: must stay 0. */
  readonly differences: number;
  /** Largest distance of the guest's clock from ours, right after a resume. */
  readonly worstClockMs: number;
}

/** Pauses and resumes one sandbox again and again, and compares everything in it with what it was before. */
export async function soak(
  server: TestServer,
  paths: NestboxPaths,
  cycles: number,
  onCycle: (cycle: number, report: SoakReport) => void = () => {},
): Promise<SoakReport> {
  const sandbox = await Sandbox.create({ ...server.connection, timeoutMs: 3_600_000 });
  try {
    await sandbox.files.write('/home/user/keeper.py', KEEPER);
    await sandbox.commands.run('python3 /home/user/keeper.py', { background: true, timeoutMs: 0 });
    let last = await askStep(server, sandbox.sandboxId);
    let differences = 0;
    let worstClockMs = 0;
    for (let cycle = 1; cycle <= cycles; cycle++) {
      await sandbox.pause();
      await Sandbox.connect(sandbox.sandboxId, { ...server.connection, timeoutMs: 3_600_000 });
      worstClockMs = Math.max(worstClockMs, await clockOffsetMs(paths, sandbox.sandboxId));
      const now = await askStep(server, sandbox.sandboxId);
      if (!now.tcp || now.ticks < last.ticks || now.before.some((hash, index) => hash !== last.after[index]))
        differences += 1;
      last = now;
      onCycle(cycle, { cycles: cycle, differences, worstClockMs });
    }
    return { cycles, differences, worstClockMs };
  } finally {
    await sandbox.kill();
  }
}

const STEP_ATTEMPTS = 40;

/** The first one waits until the program listens. */
async function askStep(server: TestServer, sandboxId: string): Promise<z.infer<typeof step>> {
  for (let attempt = 1; ; attempt++) {
    const { status, body } = await requestByHost(server.sandboxUrl, `7000-${sandboxId}.nestbox.localhost`, '/step');
    if (status === 200) return step.parse(JSON.parse(body));
    assert.ok(attempt < STEP_ATTEMPTS, `the sandbox answered ${status}: ${body}`);
  }
}

const clockAnswer = z.object({ received_ns: z.string(), sent_ns: z.string() });
const CLOCK_QUESTIONS = 5;

/** Guest minus host, by the quickest of some questions. Asked past the edge, which lets nobody ask for it. */
async function clockOffsetMs(paths: NestboxPaths, sandboxId: string): Promise<number> {
  const { accessToken, situation } = runningRecord.parse(
    JSON.parse(await readFile(hostLayout(paths).sandboxRecord(sandboxId), 'utf8')),
  );
  const url = `http://${situation.slot.hostReachableAddress}:${GUEST_AGENT_PORT}/clock`;
  const headers = { 'content-type': 'application/json', 'x-access-token': accessToken ?? '' };
  let best = { offsetMs: Number.NaN, roundTripMs: Number.POSITIVE_INFINITY };
  for (let question = 0; question < CLOCK_QUESTIONS; question++) {
    const askedMs = performance.timeOrigin + performance.now();
    const answer = clockAnswer.parse(await (await fetch(url, { method: 'POST', headers, body: '{}' })).json());
    const answeredMs = performance.timeOrigin + performance.now();
    const receivedMs = Number(answer.received_ns) / 1e6;
    const sentMs = Number(answer.sent_ns) / 1e6;
    const roundTripMs = answeredMs - askedMs - (sentMs - receivedMs);
    if (roundTripMs < best.roundTripMs)
      best = { offsetMs: (receivedMs - askedMs + (sentMs - answeredMs)) / 2, roundTripMs };
  }
  return Math.abs(best.offsetMs);
}
