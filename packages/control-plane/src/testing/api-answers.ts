import assert from 'node:assert/strict';
import { errorBody, listedSandboxBody, sandboxBody, sandboxDetailBody } from '@nestbox/contract/http';
import { z } from 'zod';
import type { TestServer } from './start-test-server.ts';

/** Creates a sandbox that lives a minute, unless the fields say something else, and returns its id. */
export async function createSandbox(server: TestServer, fields: Record<string, unknown> = {}): Promise<string> {
  const response = await server.send('POST', '/sandboxes', { templateID: 'base', timeout: 60, ...fields });
  assert.equal(response.status, 201, await response.clone().text());
  return sandboxBody.parse(await response.json()).sandboxID;
}

/** Checks the form of an error: the status stands in the body too, and a stable code. */
export async function readError(response: Response): Promise<{ status: number; code: string; message: string }> {
  const body = errorBody.parse(await response.json());
  assert.equal(body.code, response.status);
  assert.ok(body.message.length > 0);
  return { status: response.status, code: body.error_code ?? '', message: body.message };
}

export async function readDetail(server: TestServer, id: string) {
  return sandboxDetailBody.parse(await (await server.api(`/sandboxes/${id}`)).json());
}

/** Ids of a list, in its order. */
export async function listIds(server: TestServer, path = '/v2/sandboxes'): Promise<string[]> {
  const listed = z.array(listedSandboxBody).parse(await (await server.api(path)).json());
  return listed.map(({ sandboxID }) => sandboxID);
}

/** For what happens after an event of the host and has no event of its own. */
export async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

/**
 * Resolves when requests that were sent before have reached the server: both ends are in this process, so some turns of
 * its event loop carry them over, however slow the machine is.
 */
export async function arrived(): Promise<void> {
  for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
}
