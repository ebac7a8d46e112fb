/**
 * Draws what a terminal showed (standard input, with ANSI colours) as an SVG (standard output).
 * The picture in the README is made from a real run:
 *   FORCE_COLOR=1 npm run --silent quickstart | node scripts/terminal-picture.ts 'npm run quickstart' > docs/quickstart.svg
 */
import { text } from 'node:stream/consumers';

const FONT_SIZE = 13;
const LINE_HEIGHT = 18;
const CHARACTER_WIDTH = 7.83;
const MARGIN = 16;
const TITLE_HEIGHT = 34;

const COLOURS: Record<number, string> = {
  31: '#ff7b72',
  32: '#7ee787',
  33: '#e3b341',
  34: '#79c0ff',
  35: '#d2a8ff',
  36: '#76e3ea',
  90: '#8b949e',
};

interface Style {
  readonly colour: string | undefined;
  readonly bold: boolean;
  readonly dim: boolean;
}

const PLAIN: Style = { colour: undefined, bold: false, dim: false };

/** Applies one SGR code (ECMA-48 8.3.117; the common subset). */
function applyCode(style: Style, code: number): Style {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...style, bold: true };
  if (code === 2) return { ...style, dim: true };
  if (code === 22) return { ...style, bold: false, dim: false };
  if (code === 39) return { ...style, colour: undefined };
  const colour = COLOURS[code];
  return colour === undefined ? style : { ...style, colour };
}

function escapeXml(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function attributes(style: Style): string {
  const out: string[] = [];
  if (style.colour !== undefined) out.push(`fill="${style.colour}"`);
  if (style.bold) out.push('font-weight="bold"');
  if (style.dim) out.push('opacity="0.65"');
  return out.length > 0 ? ` ${out.join(' ')}` : '';
}

/** One line of the terminal as tspans; a style never outlives its line in what we draw. */
function drawLine(line: string): { readonly svg: string; readonly columns: number } {
  let style = PLAIN;
  let svg = '';
  let columns = 0;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ESC begins every ANSI sequence.
  for (const part of line.split(/(\u001b\[[0-9;]*m)/)) {
    if (part.startsWith('\u001b[')) {
      const codes = part.slice(2, -1).split(';');
      style = codes.reduce((current, code) => applyCode(current, Number(code)), style);
    } else if (part !== '') {
      svg += `<tspan${attributes(style)}>${escapeXml(part)}</tspan>`;
      columns += part.length;
    }
  }
  return { svg, columns };
}

/** What a carriage return overwrote is not drawn; other cursor movement is dropped. */
function visibleLines(output: string): string[] {
  return (
    output
      // A picture is for everybody; the key of the machine that it was made on is not.
      .replaceAll(/e2b_[0-9a-f]{40}/g, 'e2b_…')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: ESC begins every ANSI sequence.
      .replaceAll(/\u001b\[[0-9;?]*[A-Za-ln-z]/g, '')
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\r').findLast((piece) => piece !== '') ?? '')
  );
}

const title = process.argv[2] ?? 'nestbox';
const lines = visibleLines(await text(process.stdin)).map(drawLine);
const width = Math.ceil(MARGIN * 2 + CHARACTER_WIDTH * Math.max(60, ...lines.map((line) => line.columns)));
const height = TITLE_HEIGHT + MARGIN + LINE_HEIGHT * lines.length + MARGIN / 2;
const rows = lines.map(
  (line, row) =>
    `<text x="${MARGIN}" y="${TITLE_HEIGHT + MARGIN + row * LINE_HEIGHT}" xml:space="preserve">${line.svg}</text>`,
);
process.stdout.write(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace" font-size="${FONT_SIZE}" fill="#e6edf3">
<title>${escapeXml(title)}</title>
<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>
<circle cx="20" cy="17" r="5" fill="#ff5f57"/><circle cx="38" cy="17" r="5" fill="#febc2e"/><circle cx="56" cy="17" r="5" fill="#28c840"/>
<text x="${width / 2}" y="21" text-anchor="middle" fill="#8b949e">${escapeXml(title)}</text>
${rows.join('\n')}
</svg>
`);
