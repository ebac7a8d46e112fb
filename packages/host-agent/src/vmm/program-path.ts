import { access, constants } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { NestboxError } from '@nestbox/contract';

/** The absolute path of a program that PATH has, or that is named by its path. Throws not_set_up. */
export async function programPath(name: string): Promise<string> {
  const candidates = name.includes('/')
    ? [resolve(name)]
    : (process.env.PATH ?? '').split(delimiter).map((folder) => join(resolve(folder), name));
  for (const path of candidates) {
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  throw new NestboxError('not_set_up', `The program ${name} is missing. Run: nestbox setup`);
}
