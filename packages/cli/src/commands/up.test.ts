import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runNestbox } from '../../../../test/support/nestbox-command.ts';

test('values of no sense for warm sandboxes, snapshots and private addresses are refused with the reason', async () => {
  const cases = [
    [['--warm', 'base'], /TEMPLATE=N/],
    [['--warm', '=1'], /names no template/],
    [['--warm', 'base=101'], /from 0 to 100/],
    [['--warm', 'base=1', '--warm', 'base=2'], /a number already/],
    [['--max-snapshots', '-1'], /whole number from 0/],
    [['--max-snapshot-gib', '20G'], /size in GiB/],
    [['--scrub-hours', 'daily'], /whole number from 0/],
    [['--allow-private', '10.1.2.0/24', '--allow-private', '10.0.0.0/33'], /neither an address nor a CIDR block/],
    [['--allow-private', '127.0.0.1'], /stays closed/],
  ] as const;
  for (const [words, reason] of cases) {
    const { exitCode, stdout, stderr } = await runNestbox(['up', ...words], {});
    assert.deepEqual([exitCode, stdout.length], [2, 0], words.join(' '));
    assert.match(stderr, reason);
    assert.match(stderr, /\[usage\]\n$/);
  }
});

test('a state folder that is none is refused in plain words', async () => {
  for (const words of [['up'], ['doctor'], ['setup']]) {
    const { exitCode, stderr } = await runNestbox(words, { NESTBOX_DIR: '/etc/passwd' });
    assert.equal(exitCode, 1);
    assert.match(stderr, /^nestbox: .*\[(invalid_request|forbidden|not_set_up)\]\n$/, words.join(' '));
  }
});
