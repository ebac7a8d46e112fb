import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ChunkedDecoder } from './chunked-decoder.ts';

const MESSAGE = '5\r\nhello\r\n1;name="v"\r\n \r\n00A \r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n';
const BODY = 'hello 0123456789';

function decode(pieces: readonly string[]): { body: string; ended: boolean; behind: string } | undefined {
  const decoder = new ChunkedDecoder();
  let body = '';
  let behind = '';
  for (const piece of pieces) {
    const bytes = Buffer.from(piece, 'latin1');
    const decoded = decoder.decode(bytes);
    if (decoded === undefined) return undefined;
    body += bytes.toString('latin1', 0, decoded.length);
    behind += piece.slice(decoded.read);
  }
  return { body, ended: decoder.ended, behind };
}

describe('a chunked body', () => {
  test('is the same wherever it is cut', () => {
    const whole = { body: BODY, ended: true, behind: '' };
    assert.deepEqual(decode([MESSAGE]), whole);
    assert.deepEqual(decode([...MESSAGE]), whole);
    for (let at = 1; at < MESSAGE.length; at++) {
      assert.deepEqual(decode([MESSAGE.slice(0, at), MESSAGE.slice(at)]), whole, `cut at ${at}`);
      assert.equal(decode([MESSAGE.slice(0, at)])?.ended, false, `ends at ${at}`);
    }
  });

  test('leaves what follows it', () => {
    assert.deepEqual(decode(['0\r\n\r\nHTTP/1.1 200']), { body: '', ended: true, behind: 'HTTP/1.1 200' });
    assert.deepEqual(decode(['1\r\na\r\n0\r\n\r\n', 'more']), { body: 'a', ended: true, behind: 'more' });
  });

  for (const [what, message] of [
    ['no size', '\r\nhello'],
    ['a size that is no number', 'xyz\r\n'],
    ['a sign', '-5\r\nhello'],
    ['a prefix', '0x5\r\nhello'],
    ['a size beyond all measure', '10000000000000\r\n'.padStart(30, '1')],
    ['a size line that ends with LF alone', '5\nhello\r\n0\r\n\r\n'],
    ['CR without LF', '5\rhello\r\n'],
    ['more than its size', '4\r\nhello\r\n'],
    ['LF alone behind a chunk', '5\r\nhello\n0\r\n\r\n'],
    ['LF alone in an extension', '5;a\n\r\nhello\r\n'],
    ['LF alone in a trailer', '0\r\nX: 1\n\r\n'],
    ['an extension without end', `5;${'a'.repeat(20_000)}`],
    ['trailers without end', `0\r\n${'X: 1\r\n'.repeat(20_000)}`],
  ] as const)
    test(`with ${what} is none`, () => {
      assert.equal(decode([message]), undefined);
      assert.equal(decode([...message]), undefined);
    });
});
