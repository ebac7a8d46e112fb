import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Command } from 'commander';
import { buildProgram } from './program.ts';

function leaves(command: Command): readonly Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
}

test('every command says what it is for, explains each of its options, and has --json', () => {
  const commands = leaves(buildProgram(() => {}));
  assert.ok(commands.length > 20);
  for (const command of commands) {
    const name = `${command.parent?.name()} ${command.name()}`;
    assert.notEqual(command.description(), '', name);
    for (const option of command.options) assert.notEqual(option.description, '', `${name} ${option.flags}`);
    for (const argument of command.registeredArguments) assert.notEqual(argument.description, '', name);
    assert.ok(
      command.options.some(({ long }) => long === '--json'),
      name,
    );
  }
});
