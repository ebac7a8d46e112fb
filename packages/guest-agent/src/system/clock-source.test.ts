import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { leaveProcessorCounter } from './clock-source.ts';

test('the processor’s counter is left for the best of the others, and another one is kept', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-clock-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const current = join(folder, 'current_clocksource');
  writeFileSync(join(folder, 'available_clocksource'), 'tsc hpet acpi_pm \n');
  for (const [before, after] of [
    ['tsc', 'hpet'],
    ['kvm-clock', 'kvm-clock'],
    ['acpi_pm', 'acpi_pm'],
  ] as const) {
    writeFileSync(current, `${before}\n`);
    assert.equal(leaveProcessorCounter(folder), after);
    assert.equal(readFileSync(current, 'utf8').trim(), after);
  }
  writeFileSync(current, 'tsc\n');
  writeFileSync(join(folder, 'available_clocksource'), 'tsc\n');
  assert.throws(() => leaveProcessorCounter(folder), /no other clock source/);
  assert.equal(readFileSync(current, 'utf8'), 'tsc\n');
});
