import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..', '..');

/** What of Python packages the tests use, each with its version. */
export const PYTHON_REQUIREMENTS = join(ROOT, 'test', 'compat', 'python', 'requirements.txt');

/** A virtual environment that has them. */
export const PYTHON_ENVIRONMENT = join(ROOT, 'node_modules', '.cache', 'nestbox', 'python');

export const PYTHON = join(PYTHON_ENVIRONMENT, 'bin', 'python');

/** In the environment when it is whole: a copy of the requirements. */
export const INSTALLED_REQUIREMENTS = join(PYTHON_ENVIRONMENT, 'requirements.txt');

/** Why tests cannot use the e2b package for Python here, for `skip`; false when they can. */
export function pythonClientIsMissing(): string | false {
  try {
    if (readFileSync(INSTALLED_REQUIREMENTS, 'utf8') === readFileSync(PYTHON_REQUIREMENTS, 'utf8')) return false;
  } catch {
    // It is not there.
  }
  return 'the e2b package for Python is not installed; run: npm test, which says why it cannot be';
}
