import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCgroupMounts, parseUnifiedCgroup } from './mounts.ts';

test('v1, v2 and hybrid systems are told apart', () => {
  const v1 = `30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 master:3 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /sub /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
`;
  const v2 = '35 30 0:31 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n';
  const { v1: controllers, v2: unified } = parseCgroupMounts(v1);
  assert.equal(controllers.get('cpu'), '/sys/fs/cgroup/cpu,cpuacct');
  assert.equal(controllers.get('memory'), '/sys/fs/cgroup/memory');
  assert.equal(controllers.get('pids'), '/sys/fs/cgroup/pids');
  assert.equal(unified, undefined);
  assert.equal(parseCgroupMounts(v1 + v2).v2, '/sys/fs/cgroup/unified');
  assert.equal(parseCgroupMounts(v2).v1.size, 0);
});

test('odd mount points are read as the kernel wrote them', () => {
  const asKernelWrites = (path: string) =>
    path.replaceAll(/[ \t\n\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  const path = fc.string({ unit: fc.constantFrom('a', '/', ' ', '\t', '\\', '0', '4', '-') });
  fc.assert(
    fc.property(path, (name) => {
      const line = `35 30 0:31 / ${asKernelWrites(`/${name}`)} rw shared:9 - cgroup2 cgroup2 rw`;
      assert.equal(parseCgroupMounts(line).v2, `/${name}`);
    }),
  );
});

test('no text makes the parsers fail', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', ' ', '-', '\n', ',', 'cgroup', '0::/', ':') }), (text) => {
      parseCgroupMounts(text);
      parseUnifiedCgroup(text);
    }),
  );
});

test('our own place is the line of hierarchy 0', () => {
  assert.equal(
    parseUnifiedCgroup('9:name=systemd:/\n4:memory:/x\n0::/system.slice/a.service\n'),
    '/system.slice/a.service',
  );
  assert.equal(parseUnifiedCgroup('0::/\n'), '/');
  assert.equal(parseUnifiedCgroup('4:memory:/x\n'), undefined);
});
