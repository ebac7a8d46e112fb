import { spawn } from 'node:child_process';
import { styleText } from 'node:util';
import { findStaleGeneratedFiles } from './generated-code.ts';
import { GENERATED_DIR, installedBin, ROOT } from './repository.ts';

/** Undefined: fine. Else what is wrong, in the words of the tool. */
type Verdict = string | undefined;

const CHECKS: readonly (readonly [title: string, check: () => Promise<Verdict>])[] = [
  ['lint and format', () => tool('biome', ['check', '--error-on-warnings', '.'])],
  ['types', () => tool('tsc', ['--project', ROOT])],
  ['generated code', generatedCode],
];

/** Runs every check of the sources and shows each with its time. True when all are fine. */
export async function checkSources(): Promise<boolean> {
  let fine = true;
  for (const [title, check] of CHECKS) {
    const begunMs = performance.now();
    const verdict = await check();
    const seconds = ((performance.now() - begunMs) / 1000).toFixed(1);
    const mark = verdict === undefined ? styleText('green', '✔') : styleText('red', '✗');
    console.log(`${mark} ${title.padEnd(20)} ${seconds.padStart(5)} s`);
    if (verdict === undefined) continue;
    console.log(verdict);
    fine = false;
  }
  return fine;
}

async function tool(name: string, args: readonly string[]): Promise<Verdict> {
  const { exitCode, output } = await collectOutput(installedBin(name), args);
  return exitCode === 0 ? undefined : output;
}

/** Both streams in the order they came: these tools write what they found to one or the other. */
function collectOutput(file: string, args: readonly string[]): Promise<{ exitCode: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    child.once('error', reject);
    child.once('close', (exitCode) => resolve({ exitCode, output }));
  });
}

async function generatedCode(): Promise<Verdict> {
  const stale = await findStaleGeneratedFiles();
  if (stale.length === 0) return undefined;
  return `Not what proto/ asks for: ${stale.map((name) => `${GENERATED_DIR}/${name}`).join(', ')}. Run: npm run generate`;
}
