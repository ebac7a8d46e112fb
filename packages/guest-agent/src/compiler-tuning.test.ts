import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isEmulated } from './compiler-tuning.ts';

test('an emulated processor is known by its name', () => {
  assert.equal(isEmulated('vendor_id\t: AuthenticAMD\nmodel name\t: QEMU TCG CPU version 2.5+\n'), true);
  assert.equal(isEmulated('model name\t: Intel(R) Xeon(R) Processor\n'), false);
  assert.equal(isEmulated('model name\t: QEMU Virtual CPU version 2.5+\n'), false);
  assert.equal(isEmulated(''), false);
});

test('V8 knows every flag that is set, and computes the same at rest and at work', () => {
  const module = fileURLToPath(new URL('./compiler-tuning.ts', import.meta.url));
  const script = `import { CompilerTuning } from ${JSON.stringify(module)};
const compilers = new CompilerTuning('model name : QEMU TCG CPU');
let sum = 0;
for (let i = 0; i < 100_000; i++) {
  sum += [i].map((n) => n * 2)[0];
  compilers.count();
  if (i % 700 === 0) compilers.beginLife();
}
console.log(sum);`;
  const result = execFileSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  assert.equal(result, '9999900000\n');
});
