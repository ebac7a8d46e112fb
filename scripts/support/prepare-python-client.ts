import { copyFile, rm } from 'node:fs/promises';
import { runCommand } from '@nestbox/kit';
import {
  INSTALLED_REQUIREMENTS,
  PYTHON,
  PYTHON_ENVIRONMENT,
  PYTHON_REQUIREMENTS,
  pythonClientIsMissing,
} from '../../test/support/python-client.ts';

const TIMEOUT_MS = 3 * 60_000;

/** Makes a virtual environment with the e2b package for Python, if it can be had. The tests that need it are skipped otherwise. */
export async function preparePythonClient(): Promise<void> {
  if (pythonClientIsMissing() === false) return;
  console.log('Installing the e2b package for Python for the tests …');
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--retries', '1'];
  const options = { signal: AbortSignal.timeout(TIMEOUT_MS) };
  try {
    await rm(PYTHON_ENVIRONMENT, { recursive: true, force: true });
    await runCommand('python3', ['-m', 'venv', PYTHON_ENVIRONMENT], options);
    await runCommand(PYTHON, [...pip, '--requirement', PYTHON_REQUIREMENTS], options);
    await copyFile(PYTHON_REQUIREMENTS, INSTALLED_REQUIREMENTS);
  } catch (cause) {
    console.log(`It cannot be had, and the tests that need it are skipped: ${String(cause)}`);
  }
}
