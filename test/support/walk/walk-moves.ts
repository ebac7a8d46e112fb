import type { ErrorCode } from '@nestbox/contract';
import type { Answer } from '../answer-of.ts';
import type { SeededRandom } from './seeded-random.ts';
import { type KnownSandbox, type WalkModel, withoutMemory } from './walk-model.ts';
import type { Contents, WalkStage } from './walk-stage.ts';

/** A call of the API, and everything that it changes when it is answered with success. */
export interface Move {
  readonly what: string;
  ask(): Promise<Answer>;
  /** What has to be answered; with a code nothing changes. */
  readonly status: number;
  readonly code?: ErrorCode;
  readonly target?: { readonly sandboxId: string; readonly after: KnownSandbox | 'gone' };
  /** New sandboxes that the answer names. */
  readonly makes?: { readonly count: number; readonly sandbox: KnownSandbox };
  readonly keeps?: { readonly name: string; readonly contents: Contents };
  readonly drops?: string;
  /** The change comes a moment after the answer. */
  readonly isLater?: boolean;
}

/** So few that names are used again. */
const NAMES = 3;
export const TIMEOUT_SEC = 3600;

const WEIGHTS = {
  create: 8,
  pause: 12,
  pauseWithoutMemory: 5,
  resume: 8,
  connect: 10,
  reboot: 4,
  fork: 8,
  snapshot: 8,
  createFromSnapshot: 8,
  deleteSnapshot: 4,
  timeout: 4,
  endByTime: 4,
  kill: 7,
} as const;

const GONE_INSTEAD = 0.06;

export interface WalkLimits {
  /** With so many there are no new ones, until some have ended. */
  readonly sandboxes: number;
  /** Of one fork. */
  readonly copies: number;
}

export interface MoveContext {
  readonly limits: WalkLimits;
  readonly stage: WalkStage;
  readonly model: WalkModel;
  readonly random: SeededRandom;
  /** Tells its sandboxes and snapshots from those of others who walk at the same time. */
  readonly walker: string;
}

/** What is called next. */
export function pickMove(context: MoveContext): Move {
  const { model, random, limits } = context;
  const isFull = model.sandboxes.size >= limits.sandboxes;
  const kind = model.sandboxes.size === 0 ? 'create' : random.pickWeighted(WEIGHTS);
  switch (kind) {
    case 'create':
      return isFull ? onSandbox(context, 'kill') : create(context, 'base');
    case 'createFromSnapshot':
      return isFull ? onSandbox(context, 'kill') : create(context, pickSnapshot(context) ?? 'base');
    case 'deleteSnapshot':
      return deleteSnapshot(context, pickSnapshot(context) ?? 'base');
    case 'fork':
      return isFull ? onSandbox(context, 'endByTime') : onSandbox(context, kind);
    case 'kill':
    case 'endByTime':
      return onSandbox(context, kind);
    default:
      return onSandbox(context, kind);
  }
}

/** Of those that are there, or were. */
function pickSnapshot({ model, random }: MoveContext): string | undefined {
  const names = random.isTrue(0.85) ? [...model.snapshots.keys()] : [...model.deleted];
  return names.length === 0 ? undefined : random.pick(names);
}

function create({ stage, model, random, walker }: MoveContext, template: string): Move {
  const contents = model.contentsOf(template);
  const onTimeout = random.isTrue(0.5) ? 'pause' : 'kill';
  const body = { templateID: template, timeout: TIMEOUT_SEC, metadata: { walker }, autoPause: onTimeout === 'pause' };
  const what = `create from ${template}, ${onTimeout} at the end`;
  const ask = () => stage.call('POST', '/sandboxes', body);
  if (contents === undefined) return { what, ask, status: 404, code: 'template_not_found' };
  return { what, ask, status: 201, makes: { count: 1, sandbox: { state: 'running', contents, onTimeout } } };
}

function deleteSnapshot({ stage, model }: MoveContext, name: string): Move {
  const what = `delete snapshot ${name}`;
  const ask = () => stage.call('DELETE', `/templates/${encodeURIComponent(name)}`);
  if (name === 'base') return { what, ask, status: 409, code: 'conflict' };
  if (!model.snapshots.has(name)) return { what, ask, status: 404, code: 'template_not_found' };
  return { what, ask, status: 204, drops: name };
}

type SandboxCall = Exclude<keyof typeof WEIGHTS, 'create' | 'createFromSnapshot' | 'deleteSnapshot'>;

function onSandbox(context: MoveContext, kind: SandboxCall): Move {
  const { stage, model, random } = context;
  const isGone = model.gone.length > 0 && random.isTrue(GONE_INSTEAD);
  const sandboxId = isGone ? random.pick(model.gone) : random.pick([...model.sandboxes.keys()]);
  const call = describeCall(context, sandboxId, kind);
  const what = `${call.what} ${sandboxId}`;
  const path = `/sandboxes/${sandboxId}${call.path}`;
  const ask = () => stage.call(call.method ?? 'POST', path, call.body);
  const before = model.sandboxes.get(sandboxId);
  if (before === undefined) return { what, ask, status: 404, code: 'sandbox_not_found' };
  return { what, ask, ...call.result(before) };
}

type Result = Omit<Move, 'what' | 'ask'>;

interface Call {
  readonly what: string;
  readonly method?: 'DELETE';
  readonly path: string;
  readonly body?: object;
  result(before: KnownSandbox): Result;
}

const PAUSED: Result = { status: 409, code: 'sandbox_paused' };
const NOT_PAUSED: Result = { status: 409, code: 'sandbox_not_paused' };
const NOT_RUNNING: Result = { status: 404, code: 'sandbox_not_found' };

function describeCall({ random, walker, limits }: MoveContext, sandboxId: string, kind: SandboxCall): Call {
  const becomes = (status: number, after: KnownSandbox | 'gone'): Result => ({ status, target: { sandboxId, after } });
  const timeout = TIMEOUT_SEC;
  switch (kind) {
    case 'pause':
    case 'pauseWithoutMemory': {
      const memory = kind === 'pause';
      return {
        what: memory ? 'pause' : 'pause without memory',
        path: '/pause',
        body: { memory },
        result(before) {
          if (before.state === 'paused') return PAUSED;
          const contents = memory ? before.contents : withoutMemory(before.contents);
          return becomes(204, { ...before, state: 'paused', contents });
        },
      };
    }
    case 'resume':
      return {
        what: 'resume',
        path: '/resume',
        body: { timeout },
        result: (before) => (before.state === 'running' ? NOT_PAUSED : becomes(201, { ...before, state: 'running' })),
      };
    case 'connect':
    case 'reboot': {
      const memory = kind === 'connect';
      return {
        what: memory ? 'connect to' : 'connect without memory to',
        path: '/connect',
        body: { timeout, memory },
        result(before) {
          if (before.state === 'running') return becomes(200, before);
          const contents = memory ? before.contents : withoutMemory(before.contents);
          return becomes(201, { ...before, state: 'running', contents });
        },
      };
    }
    case 'fork': {
      const count = 1 + random.below(limits.copies);
      return {
        what: `fork into ${count}:`,
        path: '/fork',
        body: { count, timeout },
        result: (before) => (before.state === 'paused' ? PAUSED : { status: 201, makes: { count, sandbox: before } }),
      };
    }
    case 'snapshot': {
      const name = `${walker}-${random.below(NAMES)}`;
      return {
        what: `snapshot ${name} of`,
        path: '/snapshots',
        body: { name },
        result: ({ state, contents }) => (state === 'paused' ? PAUSED : { status: 201, keeps: { name, contents } }),
      };
    }
    case 'timeout':
      return {
        what: 'set the time-out of',
        path: '/timeout',
        body: { timeout: TIMEOUT_SEC * (1 + random.below(3)) },
        result: (before) => (before.state === 'paused' ? NOT_RUNNING : becomes(204, before)),
      };
    case 'endByTime':
      return {
        what: 'let the time end of',
        path: '/timeout',
        body: { timeout: 0 },
        result(before) {
          if (before.state === 'paused') return NOT_RUNNING;
          const after: KnownSandbox | 'gone' = before.onTimeout === 'kill' ? 'gone' : { ...before, state: 'paused' };
          return { ...becomes(204, after), isLater: true };
        },
      };
    case 'kill':
      return { what: 'kill', method: 'DELETE', path: '', result: () => becomes(204, 'gone') };
  }
}
