import { accessSync, constants, statSync } from 'node:fs';
import { resolve } from 'node:path';

export type CommandPath =
  | { readonly found: true; readonly path: string }
  | { readonly found: false; readonly exitCode: 126 | 127; readonly reason: string };

const NOT_FOUND = { found: false, exitCode: 127, reason: 'not found' } as const;
const NOT_EXECUTABLE = { found: false, exitCode: 126, reason: 'Permission denied' } as const;

/**
 * Finds the program as execvp(3) does: a name with a slash is a path from `cwd`, any other is looked up in each folder
 * of `searchPath`, where an empty element means `cwd`. A shell's exit codes tell why there is none. The answer holds for
 * the user that the calling thread acts as.
 */
export function findCommand(command: string, searchPath: string, cwd: string): CommandPath {
  if (command === '') return NOT_FOUND;
  if (command.includes('/')) return checkProgram(resolve(cwd, command));
  let failure: CommandPath = NOT_FOUND;
  for (const dir of searchPath.split(':')) {
    const candidate = checkProgram(resolve(cwd, dir, command));
    if (candidate.found) return candidate;
    if (candidate.exitCode === 126) failure = candidate;
  }
  return failure;
}

function checkProgram(path: string): CommandPath {
  try {
    // access(2) asks for the real user, which is the one of the process-to-be here.
    if (!statSync(path, { throwIfNoEntry: false })) return NOT_FOUND;
    accessSync(path, constants.X_OK);
    return statSync(path).isFile() ? { found: true, path } : NOT_EXECUTABLE;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EACCES' ? NOT_EXECUTABLE : NOT_FOUND;
  }
}
