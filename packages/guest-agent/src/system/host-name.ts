import { checked, libc } from './libc.ts';

/** Sets the kernel's host name, 64 bytes at most. Throws SystemCallError. */
export function setHostName(name: string): void {
  const call: (name: string, bytes: number) => number = libc().func('int sethostname(const char *name, size_t bytes)');
  checked('sethostname', call(name, Buffer.byteLength(name)));
}
