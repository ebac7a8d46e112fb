import assert from 'node:assert/strict';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { type ErrorCode, NestboxError } from '@nestbox/contract';
import type { HostAgent } from '../host-agent.ts';
import type { SandboxEvent } from '../sandbox/sandbox.ts';

/** For `assert.rejects` and `assert.throws`. */
export function withCode(code: ErrorCode, pattern = /./) {
  return (error: unknown) => {
    assert.ok(error instanceof NestboxError, `expected ${code}, got ${String(error)}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

/** Waits until the watch tells that the sandbox has come to the state; answers the reason. */
export async function untilState(
  events: AsyncIterable<SandboxEvent>,
  sandboxId: string,
  state: string,
): Promise<string> {
  for await (const event of events)
    if (event.kind === 'changed' && event.sandbox.sandboxId === sandboxId && event.sandbox.state === state)
      return event.sandbox.reason ?? '';
  throw new Error('the watch ended');
}

/** Looks again and again; the time only ends a test that would hang. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const endsAt = performance.now() + 30_000; !(await condition()); await delay(10))
    assert.ok(performance.now() < endsAt, `${what}: not within 30 s`);
}

/** A promise to wait for, and what lets go on whoever waits. */
export function gate() {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  promise.catch(() => undefined);
  return { promise, open: () => resolve(), fail: reject };
}

/** Asks the guest agent of a sandbox by way of the host's proxy. */
export function askThroughProxy(
  host: HostAgent,
  sandboxId: string,
  path: string,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: host.proxySocketPath, path: `/proxy/${sandboxId}/49983${path}` });
    asked.once('error', reject);
    asked.once('response', (response) => {
      text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
    });
    asked.end();
  });
}
