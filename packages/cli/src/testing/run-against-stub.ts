import type { TestContext } from 'node:test';
import { runNestbox } from '../../../../test/support/nestbox-command.ts';
import { answerByRoute, type SeenRequest, type StubRoutes, startStubApi } from './stub-api.ts';

export interface StubRun {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seen: readonly SeenRequest[];
}

/** Runs the real `nestbox` command against a stub of the control API. */
export async function runAgainstStub(
  t: TestContext,
  routes: StubRoutes,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<StubRun> {
  const seen: SeenRequest[] = [];
  const { apiUrl, apiKey } = await startStubApi(t, answerByRoute(routes, seen));
  const outcome = await runNestbox(args, { E2B_API_URL: apiUrl, E2B_API_KEY: apiKey, ...env });
  return { exitCode: outcome.exitCode, stdout: outcome.stdout.toString(), stderr: outcome.stderr, seen };
}

/** The body of an error as our server sends it. */
export function errorAnswer(status: number, code: string, message: string) {
  return { status, body: { code: status, error_code: code, message } };
}
