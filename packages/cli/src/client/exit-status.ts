import { constants } from 'node:os';

/** How a command ended. */
export interface ExitStatus {
  /** As a shell would answer it: the command's own code, or 128 and the signal's number. */
  readonly exitCode: number;
  /** Name of the signal that ended it. */
  readonly signal: string | undefined;
}

/** Words of Go's os.ProcessState for the signals, which the guest agent's `status` and `error` carry ("signal: killed"). */
const SIGNAL_WORDS: Readonly<Record<string, keyof typeof constants.signals>> = {
  aborted: 'SIGABRT',
  'alarm clock': 'SIGALRM',
  'bus error': 'SIGBUS',
  'broken pipe': 'SIGPIPE',
  'CPU time limit exceeded': 'SIGXCPU',
  'file size limit exceeded': 'SIGXFSZ',
  'floating point exception': 'SIGFPE',
  hangup: 'SIGHUP',
  'illegal instruction': 'SIGILL',
  interrupt: 'SIGINT',
  killed: 'SIGKILL',
  quit: 'SIGQUIT',
  'segmentation fault': 'SIGSEGV',
  terminated: 'SIGTERM',
  'trace/breakpoint trap': 'SIGTRAP',
  'user defined signal 1': 'SIGUSR1',
  'user defined signal 2': 'SIGUSR2',
};

/** Reads the guest agent's end event: exit code -1 and a status "signal: …" mean that a signal ended the command. */
export function parseExitStatus(end: { readonly exitCode: number; readonly status: string }): ExitStatus {
  const words = /^signal: (.+?)(?: \(core dumped\))?$/.exec(end.status)?.[1];
  if (words === undefined) return { exitCode: end.exitCode < 0 ? 255 : end.exitCode, signal: undefined };
  const name = SIGNAL_WORDS[words];
  // Signals without a name of their own: "signal 34".
  const number = name === undefined ? Number(/\d+/.exec(words)?.[0] ?? Number.NaN) : constants.signals[name];
  return { exitCode: Number.isNaN(number) ? 255 : 128 + number, signal: name ?? words };
}
