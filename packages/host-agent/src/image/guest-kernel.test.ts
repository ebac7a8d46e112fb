import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kernelRelease, kernelVersion, parseKernelPackage } from './guest-kernel.ts';

test("the kernel's package is what the meta package depends on", () => {
  const show = [
    'Package: linux-image-cloud-amd64',
    'Source: linux-signed-amd64 (6.1.192+2)',
    'Version: 6.1.192-2',
    'Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)',
    'Description-en: Linux for x86-64 cloud (meta-package)',
  ].join('\n');
  const found = parseKernelPackage(show);
  assert.deepEqual(found, {
    name: 'linux-image-6.1.0-56-cloud-amd64',
    release: '6.1.0-56-cloud-amd64',
    debianVersion: '6.1.192-2',
  });
});

test('version names of Debian 13 and of backports are understood', () => {
  const trixie = parseKernelPackage('Depends: linux-image-6.12.57+deb13-cloud-amd64 (= 6.12.57-1)');
  assert.equal(trixie?.release, '6.12.57+deb13-cloud-amd64');
  const backport = parseKernelPackage('Depends: linux-base, linux-image-6.12.9+bpo-cloud-amd64 (= 6.12.9-1~bpo12+1)');
  assert.equal(backport?.debianVersion, '6.12.9-1~bpo12+1');
});

test('an answer without a kernel is no package', () => {
  assert.equal(parseKernelPackage(''), undefined);
  assert.equal(parseKernelPackage('Depends: linux-image-amd64 (= 6.1.192-2)'), undefined);
});

test("a version's name gives the release back", () => {
  const kernel = { name: 'x', release: '6.1.0-56-cloud-amd64', debianVersion: '6.1.192-2' };
  assert.equal(kernelRelease(kernelVersion(kernel)), kernel.release);
});
