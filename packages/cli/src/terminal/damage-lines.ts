/** What stands under a list of things of which some are damaged: an empty line, and a line for each; nothing when none is. */
export function damageLines(things: readonly (readonly [name: string, damage: string | undefined])[]): string {
  const lines = things.flatMap(([name, damage]) => (damage === undefined ? [] : [`${name}: ${damage}`]));
  return lines.length === 0 ? '' : `\n\nDamaged:\n${lines.join('\n')}`;
}
