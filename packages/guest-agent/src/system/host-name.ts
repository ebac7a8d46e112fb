import { checked, libc } from './libc.ts';

type SetHostName = (name: string, bytes: number) => number;

let bound: SetHostName | undefined;

/** Sets the kernel's host name, 64 bytes at most. Throws SystemCallError. */
export function setHostName(name: string): void {
  const call: SetHostName = bound ?? libc().func('int sethostname(const char *name, size_t bytes)');
  bound = call;
  checked('sethostname', call(name, Buffer.byteLength(name)));
}
