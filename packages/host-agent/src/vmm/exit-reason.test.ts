import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ExitEvidence, explainExit } from './exit-reason.ts';

const NOTHING: ExitEvidence = { exit: undefined, shutdownCause: undefined, outOfMemory: false, lastWords: '' };

test('the strongest evidence decides what is said', () => {
  const killed = { exitCode: undefined, signal: 'SIGKILL' } as const;
  const failed = { exitCode: 1, signal: undefined };
  const ended = { exitCode: 0, signal: undefined };
  const cases: [Partial<ExitEvidence>, RegExp][] = [
    [{ exit: killed, outOfMemory: true }, /memory/],
    [{ exit: ended, shutdownCause: 'guest-shutdown' }, /shut itself down/],
    [{ exit: ended, shutdownCause: 'guest-reset' }, /restarted/],
    [{ exit: ended, shutdownCause: 'host-signal' }, /from the host/],
    [{ exit: killed }, /SIGKILL/],
    [{ exit: failed, lastWords: 'could not load kernel' }, /exit code 1\. Its last words: could not load kernel/],
    [{ exit: ended }, /by itself/],
    [{}, /no longer running/],
    [{ shutdownCause: 'subsystem-reset', exit: failed }, /exit code 1/],
  ];
  for (const [evidence, expected] of cases) assert.match(explainExit({ ...NOTHING, ...evidence }), expected);
});
