import assert from 'node:assert/strict';
import { Code, ConnectError } from '@connectrpc/connect';
import type { ProcessEvent } from '@nestbox/contract/process';
import { observe } from './test-agent.ts';

/** A command of the shell, without standard input. */
export const sh = (script: string, ...args: string[]) => ({
  process: { cmd: '/bin/sh', args: ['-c', script, 'sh', ...args], envs: {} },
  stdin: false,
});

/** The options of a call that is made as this user. */
export const as = (user: string) => ({
  headers: { Authorization: `Basic ${Buffer.from(`${user}:`).toString('base64')}` },
});

export const byPid = (pid: number) => ({ selector: { case: 'pid', value: pid } }) as const;
export const byTag = (tag: string) => ({ selector: { case: 'tag', value: tag } }) as const;

/** A stream that is read event by event. */
export function step(stream: AsyncIterable<{ event?: ProcessEvent | undefined }>) {
  const events = stream[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await events.next();
    return done ? undefined : value.event?.event;
  };
  return {
    next,
    /** The pid of the start event. */
    start: async () => {
      const event = await next();
      assert.equal(event?.case, 'start');
      return event?.case === 'start' ? event.value.pid : 0;
    },
    /** Reads output until it contains `text`. */
    until: async (text: string) => {
      let seen = '';
      while (!seen.includes(text)) {
        const event = await next();
        assert.ok(event !== undefined && event.case !== 'end', `the stream ended before it showed ${text}: ${seen}`);
        if (event.case === 'data') seen += Buffer.from(event.value.output.value ?? []).toString();
      }
      return seen;
    },
    rest: () => observe({ [Symbol.asyncIterator]: () => events }),
  };
}

/** Expects a call to fail with this code and message. */
export async function rejectsWith(call: Promise<unknown>, code: Code, message: RegExp): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(Code[error.code], Code[code], error.message);
    assert.match(error.rawMessage, message);
    return true;
  });
}
