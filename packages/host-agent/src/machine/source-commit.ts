import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

/**
 * The commit of the Git checkout that a folder is in, by Git's files alone: no Git is needed, and no rule of Git's about whose files they
 * are stands in the way. Undefined when it is in none. Source: gitrepository-layout(5).
 */
export async function findSourceCommit(folder: string): Promise<string | undefined> {
  for (let here = folder; ; here = dirname(here)) {
    const gitDir = await gitDirOf(here);
    if (gitDir !== undefined) return readHead(gitDir);
    if (here === dirname(here)) return undefined;
  }
}

async function gitDirOf(folder: string): Promise<string | undefined> {
  const path = join(folder, '.git');
  if ((await readText(join(path, 'HEAD'))) !== undefined) return path;
  // Of a further working tree it is a file that says where.
  const [, pointed] = /^gitdir: (.+)$/m.exec((await readText(path)) ?? '') ?? [];
  return pointed === undefined ? undefined : resolve(folder, pointed);
}

async function readHead(gitDir: string): Promise<string | undefined> {
  const head = (await readText(join(gitDir, 'HEAD')))?.trim() ?? '';
  const [, ref] = /^ref: (refs\/.+)$/.exec(head) ?? [];
  if (ref === undefined) return toCommit(head);
  const common = await readText(join(gitDir, 'commondir'));
  const commonDir = common === undefined ? gitDir : resolve(gitDir, common.trim());
  const packed = (await readText(join(commonDir, 'packed-refs'))) ?? '';
  const line = packed.split('\n').find((each) => each.endsWith(` ${ref}`));
  return toCommit((await readText(join(commonDir, ref))) ?? line?.split(' ')[0] ?? '');
}

function toCommit(text: string): string | undefined {
  return /^[0-9a-f]{40}([0-9a-f]{24})?$/.exec(text.trim())?.[0];
}

async function readText(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch(() => undefined);
}
