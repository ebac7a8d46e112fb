import { readdir } from 'node:fs/promises';
import { runCommand } from '@nestbox/kit';

/** Everything of networks that can be left behind, to compare before and after. */
export async function kernelState(slotsDir: string) {
  const lines = async (file: string, ...args: string[]) =>
    (await runCommand(file, args)).stdout.split('\n').filter(Boolean);
  const links = await lines('ip', '-o', 'link', 'show');
  return {
    namespaces: (await lines('ip', 'netns', 'list')).map((line) => line.split(' ')[0]).sort(byText),
    links: links.map((line) => line.split(': ')[1]).sort(byText),
    routes: await lines('ip', '-4', 'route', 'show'),
    tables: await lines('nft', 'list', 'tables'),
    claims: (await readdir(slotsDir).catch(() => [])).filter((name) => !name.startsWith('.')).sort(byText),
  };
}

function byText(a: string | undefined, b: string | undefined): number {
  return (a ?? '').localeCompare(b ?? '');
}
