const TYPE_MASK = 0o170_000;

/** What precedes the nine permission letters in Go's FileMode.String(), by the file's type; Dc: a character device. */
const TYPE_LETTERS = new Map<number, string>([
  [0o040_000, 'd'],
  [0o120_000, 'L'],
  [0o060_000, 'D'],
  [0o020_000, 'D'],
  [0o010_000, 'p'],
  [0o140_000, 'S'],
]);

const CHARACTER_DEVICE = 0o020_000;

const SPECIAL_LETTERS: readonly (readonly [bit: number, letter: string])[] = [
  [0o4000, 'u'],
  [0o2000, 'g'],
];

/**
 * The text of a mode as Go writes it (`os.FileMode.String`), which the wire has and which differs from ls: `Lrwxrwxrwx`
 * for links, `dtrwxrwxrwx` for a sticky directory, `urwxr-xr-x` for set-uid, `Dcrw-rw-rw-` for a character device.
 * @param mode `st_mode` of lstat(2)
 */
export function goFileMode(mode: number): string {
  let letters = TYPE_LETTERS.get(mode & TYPE_MASK) ?? '';
  for (const [bit, letter] of SPECIAL_LETTERS) if (mode & bit) letters += letter;
  if ((mode & TYPE_MASK) === CHARACTER_DEVICE) letters += 'c';
  if (mode & 0o1000) letters += 't';
  if (letters === '') letters = '-';
  const rwx = 'rwxrwxrwx';
  for (let at = 0; at < rwx.length; at += 1) letters += mode & (0o400 >> at) ? rwx.charAt(at) : '-';
  return letters;
}
