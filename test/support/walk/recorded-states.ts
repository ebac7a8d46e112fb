import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

const record = z.object({ situation: z.object({ state: z.string() }) });

/** What the disk says of each sandbox's state, by its id; in place of a state, why there is none. */
export async function recordedStates(stateDir: string): Promise<ReadonlyMap<string, string>> {
  const folder = join(stateDir, 'sandboxes');
  const stateOf = async (id: string) =>
    record.parse(JSON.parse(await readFile(join(folder, id, 'sandbox.json'), 'utf8'))).situation.state;
  const ids = await readdir(folder);
  return new Map(await Promise.all(ids.map(async (id) => [id, await stateOf(id).catch(String)] as const)));
}
