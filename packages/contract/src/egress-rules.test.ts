import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DomainPatterns, parseDomainName, parseDomainPattern } from './domain-pattern.ts';
import { type EgressSettings, isOpen, MAX_EGRESS_ENTRIES, OPEN_EGRESS, parseEgressRules } from './egress-rules.ts';
import { NestboxError } from './errors.ts';
import { formatIpv4, includesAddress, mergeRanges, parseIpv4, parseRange, subtractRanges } from './ipv4.ts';

const settings = (some: Partial<EgressSettings>): EgressSettings => ({ ...OPEN_EGRESS, ...some });
const anyAddress = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const anyRange = fc
  .tuple(anyAddress, fc.integer({ min: 0, max: 32 }))
  .map(([address, prefix]) => parseRange(`${formatIpv4(address)}/${prefix}`) ?? assert.fail());

test('addresses are read as they are written, and nothing else is one', () => {
  fc.assert(fc.property(anyAddress, (address) => parseIpv4(formatIpv4(address)) === address));
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '0x1.2.3.4',
    '1.2.3.-4',
  ])
    assert.equal(parseIpv4(text), undefined, text);
  for (const text of ['1.2.3.4/33', '1.2.3.4/', '1.2.3.4/8/8', '1.2.3.4/08', '/8', '1.2.3.4/-1'])
    assert.equal(parseRange(text), undefined, text);
  assert.deepEqual(parseRange('8.8.8.8/24'), parseRange('8.8.8.0/24'));
  assert.deepEqual(parseRange('0.0.0.0/0'), { first: 0, last: 2 ** 32 - 1 });
});

test('merged and subtracted ranges hold exactly the addresses that they should', () => {
  fc.assert(
    fc.property(fc.array(anyRange), fc.array(anyRange), fc.array(anyAddress), (ranges, without, others) => {
      const edges = [...ranges, ...without].flatMap(({ first, last }) => [first - 1, first, last, last + 1]);
      const merged = mergeRanges(ranges);
      const left = subtractRanges(ranges, without);
      for (const list of [merged, left])
        for (const [index, range] of list.entries()) {
          assert.ok(range.first <= range.last);
          assert.ok(index === 0 || range.first > (list[index - 1]?.last ?? 0) + (list === merged ? 1 : 0));
        }
      for (const address of [...edges, ...others].filter((at) => at >= 0 && at < 2 ** 32)) {
        const inside = includesAddress(ranges, address);
        assert.equal(includesAddress(merged, address), inside);
        assert.equal(includesAddress(left, address), inside && !includesAddress(without, address));
      }
    }),
  );
});

test('names are read in small letters; what DNS cannot carry is none', () => {
  assert.equal(parseDomainName('Example.COM.'), 'example.com');
  assert.equal(parseDomainName('bücher.example'), 'xn--bcher-kva.example');
  assert.equal(parseDomainName('_dmarc.example.com'), '_dmarc.example.com');
  for (const text of [
    '',
    '.',
    'a..b',
    '-a.com',
    'a-.com',
    '1.2.3',
    '1.2.3.4',
    '127.1',
    'a b.com',
    'a.com/',
    'a.com:80',
  ])
    assert.equal(parseDomainName(text), undefined, text);
  for (const text of [
    'a@b.com',
    'http://a.com',
    'a.com?x',
    `${'a'.repeat(64)}.com`,
    `${'a.'.repeat(127)}com`,
    'a\0.com',
  ])
    assert.equal(parseDomainName(text), undefined, text);
  for (const text of ['*', '*.example.com', 'example.com']) assert.equal(parseDomainPattern(text), text);
  for (const text of ['**', '*.', '*.*.com', 'a.*.com', '*example.com', 'ex*.com', '*.1.2.3.4'])
    assert.equal(parseDomainPattern(text), undefined, text);
});

test('a wildcard matches every name below, at any depth, and not the name itself', () => {
  const patterns = new DomainPatterns(['*.example.com', 'exact.org']);
  for (const name of ['a.example.com', 'a.b.example.com', 'exact.org']) assert.ok(patterns.matches(name), name);
  for (const name of ['example.com', 'badexample.com', 'a.exact.org', 'example.com.evil.org', 'com', 'org'])
    assert.ok(!patterns.matches(name), name);
  assert.ok(new DomainPatterns(['*']).matches('whatever.example'));
});

test('no text at all makes the parsers throw anything but the one error', () => {
  const anyEntry = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(
    fc.property(fc.array(anyEntry), fc.array(anyEntry), fc.boolean(), (allowOut, denyOut, allowInternetAccess) => {
      try {
        parseEgressRules({ allowOut, denyOut, allowInternetAccess });
      } catch (error) {
        assert.ok(error instanceof NestboxError && error.code === 'invalid_request');
      }
    }),
  );
});

test('nothing denied is open, whatever is allowed', () => {
  assert.ok(isOpen(parseEgressRules(OPEN_EGRESS)));
  assert.ok(isOpen(parseEgressRules(settings({ allowOut: ['1.1.1.1'] }))));
  assert.ok(isOpen(parseEgressRules(settings({ denyOut: ['::/0', 'fe80::1'] }))));
  assert.ok(!isOpen(parseEgressRules(settings({ denyOut: ['1.1.1.1'] }))));
  assert.ok(!isOpen(parseEgressRules(settings({ allowInternetAccess: false }))));
});

test('no internet access is the same as denying every address', () => {
  const everything = parseEgressRules(settings({ denyOut: ['0.0.0.0/0'], allowOut: ['a.com', '1.1.1.1'] }));
  assert.deepEqual(
    parseEgressRules(settings({ allowInternetAccess: false, allowOut: ['A.com.', '1.1.1.1'] })),
    everything,
  );
  assert.deepEqual(parseEgressRules(settings({ denyOut: ['0.0.0.0/1', '128.0.0.0/1'] })).denied, everything.denied);
});

test('what cannot be meant is refused with the field and the entry', () => {
  const cases: [Partial<EgressSettings>, RegExp][] = [
    [{ denyOut: ['example.com'] }, /"denyOut" has "example.com".*names can only be allowed/],
    [{ denyOut: ['1.2.3.4/40'] }, /"denyOut" has "1.2.3.4\/40"/],
    [{ denyOut: ['0.0.0.0'] }, /"denyOut" has "0.0.0.0"/],
    [{ allowOut: ['example.com'] }, /names domains.*"0.0.0.0\/0"/],
    [{ allowOut: ['example.com'], denyOut: ['1.1.1.1'] }, /names domains/],
    [{ allowOut: ['::1'] }, /no IPv6/],
    [{ allowOut: ['a.*.com'], denyOut: ['0.0.0.0/0'] }, /"allowOut" has "a\.\*\.com"/],
    [{ allowOut: ['x'.repeat(500)], denyOut: ['0.0.0.0/0'] }, /x{80}…"/],
    [{ denyOut: Array.from({ length: MAX_EGRESS_ENTRIES + 1 }, () => '1.1.1.1') }, /1001 entries/],
  ];
  for (const [some, message] of cases)
    assert.throws(
      () => parseEgressRules(settings(some)),
      (error) => error instanceof NestboxError && error.code === 'invalid_request' && message.test(error.message),
      String(message),
    );
});
