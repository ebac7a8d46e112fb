/**
 * Stands in for a VMM that is not installed: a process of its own with the command line, the socket and the API of the real
 * one, holding every request against the VMM's own description of its API.
 * Arguments: the plan's path, then those that the VMM would get.
 */
import { appendFileSync, writeFileSync, writeSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { basename, dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { BOOT_SIGN_OF_LIFE } from '../../driver.ts';
import { type ApiDescription, readApiDescription } from './api-description.ts';
import { CloudHypervisorModel } from './cloud-hypervisor-model.ts';
import { FirecrackerModel } from './firecracker-model.ts';
import { GuestProgram } from './guest-program.ts';
import { ModelFault, type Reply, type VmmModel } from './model.ts';
import { type JournalEntry, type PlannedFailure, readPlan } from './plan.ts';

const [planPath = '', ...args] = process.argv.slice(2);
const plan = readPlan(planPath);

if (args.includes('--version')) {
  process.stdout.write(
    plan.vmm === 'firecracker'
      ? `Firecracker v${plan.version}\n\nSupported snapshot data format versions: v8.0.0\n`
      : `cloud-hypervisor v${plan.version}\n`,
  );
  process.exit(0);
}
if (plan.doomed === true) {
  process.stderr.write('stand-in: it ends as it was told, before it has done anything\n');
  process.exit(1);
}

const { values } = parseArgs({
  args,
  options: {
    'api-sock': { type: 'string' },
    'api-socket': { type: 'string' },
    id: { type: 'string' },
    'start-time-us': { type: 'string' },
    'start-time-cpu-us': { type: 'string' },
    'log-path': { type: 'string' },
    level: { type: 'string' },
    'metrics-path': { type: 'string' },
    seccomp: { type: 'string' },
    'log-file': { type: 'string' },
    'event-monitor': { type: 'string' },
  },
});

const socketPath = values['api-sock'] ?? values['api-socket']?.replace(/^path=/, '') ?? '';
const say = (what: string) => {
  if (what === 'boot' && readPlan(planPath).silent !== true) process.stdout.write(`${BOOT_SIGN_OF_LIFE}\n`);
};
const startedAt = performance.now();

/** As Cloud Hypervisor's event monitor: JSON over several lines, each followed by an empty one. */
function tell(source: string, event: string): void {
  const descriptor = /^fd=(\d+)$/.exec(values['event-monitor'] ?? '')?.[1];
  if (descriptor === undefined) return;
  const timestamp = { secs: Math.floor((performance.now() - startedAt) / 1000), nanos: 0 };
  writeSync(Number(descriptor), `${JSON.stringify({ timestamp, source, event, properties: null }, null, 2)}\n\n`);
}

if (values['log-file'] !== undefined) writeFileSync(values['log-file'], '');
/** Last words go where the real one has its log. */
function complain(words: string): void {
  if (values['log-file'] === undefined) process.stderr.write(words);
  else appendFileSync(values['log-file'], words);
}

const model: VmmModel =
  plan.vmm === 'firecracker'
    ? new FirecrackerModel(plan.version, say, values['metrics-path'])
    : new CloudHypervisorModel({
        version: plan.version,
        say,
        preloaded: () => readPlan(planPath).preloaded === true,
        memoryLink: () => readPlan(planPath).memoryLink,
        tell,
      });
const guest = GuestProgram.of(plan.guest, values.id ?? basename(dirname(dirname(socketPath))));
const description: ApiDescription | undefined =
  plan.descriptionPath === undefined ? undefined : readApiDescription(plan.descriptionPath);

function answerTo(method: string, path: string, body: unknown): Reply {
  const problem = description?.checkRequest(method, path, body);
  if (problem !== undefined) return { status: 400, body: { fault_message: problem }, violation: problem };
  try {
    const reply = model.handle(method, path, body);
    const wrong = description?.checkStatus(method, path, reply.status);
    return wrong === undefined ? reply : { status: 500, body: { fault_message: wrong }, violation: wrong };
  } catch (error) {
    if (error instanceof ModelFault) return error.reply;
    const message = error instanceof Error ? error.message : String(error);
    return { status: 400, body: { fault_message: message }, violation: message };
  }
}

function faultText(body: unknown): string | undefined {
  return body === undefined ? undefined : JSON.stringify(body);
}

function note(method: string, path: string, body: unknown, reply: Reply): void {
  const entry: JournalEntry = {
    pid: process.pid,
    method,
    path,
    body,
    status: reply.status,
    ...(reply.status >= 300 ? { fault: faultText(reply.body) } : {}),
    ...(reply.violation === undefined ? {} : { violation: true }),
    ...(method === 'GET' || model.memory === undefined ? {} : { memory: model.memory.digest() }),
  };
  appendFileSync(plan.journalPath, `${JSON.stringify(entry)}\n`);
}

function send(answer: ServerResponse, reply: Reply): void {
  const text = reply.body === undefined ? '' : JSON.stringify(reply.body);
  answer.writeHead(reply.status, reply.status === 204 ? {} : { 'content-length': Buffer.byteLength(text) });
  answer.end(text);
}

/** In the form that the VMM gives its refusals. */
function refusal(words: string): Reply {
  if (plan.vmm === 'firecracker') return { status: 400, body: { fault_message: words } };
  return { status: 500, body: ['Error from API', words] };
}

async function goWrong(failure: PlannedFailure, answer: ServerResponse, proceed: () => Promise<Reply>): Promise<void> {
  switch (failure.how) {
    case 'fault':
      send(answer, refusal(`stand-in: ${failure.call} is refused as it was told`));
      return;
    case 'restart':
      send(answer, await proceed());
      tell('vm', 'rebooting');
      return;
    case 'shut-down':
      send(answer, await proceed());
      tell('vm', 'shutdown');
      answer.once('close', () => process.exit(0));
      return;
    case 'die':
      complain(`stand-in: it dies at ${failure.call} as it was told\n`);
      process.exit(1);
      break;
    case 'die-after':
      await proceed();
      complain(`stand-in: it dies after ${failure.call} as it was told\n`);
      process.exit(1);
      break;
    case 'hang':
      return;
    case 'slow':
      await new Promise((done) => setTimeout(done, failure.delayMs ?? 0));
      send(answer, await proceed());
      return;
    case 'truncate':
      await proceed();
      answer.socket?.end('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"half');
  }
}

const server = createServer(async (incoming, answer) => {
  const { method = '', url = '' } = incoming;
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(Buffer.from(part));
  const text = Buffer.concat(parts).toString('utf8');
  const body: unknown = text === '' ? undefined : JSON.parse(text);
  const call = `${method} ${url}`;
  const proceed = async () => {
    const reply = answerTo(method, url, body);
    note(method, url, body, reply);
    if (reply.status < 300) await guest?.follow(method, url, body);
    return reply;
  };
  const failure = readPlan(planPath).failures?.find((planned) => call.startsWith(planned.call));
  if (failure === undefined) send(answer, await proceed());
  else await goWrong(failure, answer, proceed);
});

// Firecracker has no handler for it, and as first process of its pid namespace it never gets it.
if (plan.vmm === 'cloud-hypervisor') process.once('SIGTERM', () => process.exit(0));
if (plan.noSocket === true) setInterval(() => undefined, 60_000);
else server.listen(socketPath);
