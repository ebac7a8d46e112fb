import { closeSync, openSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { formatIpv4 } from '@nestbox/contract';
import koffi, { node as event, type LibraryHandle } from 'koffi';

/** Of linux/socket.h, linux/in.h and linux/netfilter_ipv4.h; the same on x86-64 and arm64. */
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_MARK = 36;
const SOL_IP = 0;
const SO_ORIGINAL_DST = 80;
const CLONE_NEWNET = 0x4000_0000;
const SOCKADDR_BYTES = 16;
const BACKLOG = 512;

export interface SocketAddress {
  readonly address: number;
  readonly port: number;
}

/** A failed system call; `code` is the errno's name, as in Node's own errors. */
export class SocketError extends Error {
  override readonly name = 'SocketError';
  readonly code: string;

  constructor(syscall: string, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${syscall}: ${code}`);
    this.code = code;
  }
}

/**
 * Sockets inside network namespaces, as descriptors that do not block. A socket belongs to the namespace in which it was made,
 * and this thread is in another one only while it makes one. Node has no call for that, nor for where a redirected
 * connection was bound. Only on the main thread.
 */
export class NamespaceSockets {
  readonly #lib: LibraryHandle = koffi.load('libc.so.6');
  readonly #setns = this.#lib.func('int setns(int fd, int type)');
  readonly #socket = this.#lib.func('int socket(int domain, int type, int protocol)');
  readonly #bind = this.#lib.func('int bind(int fd, void *address, uint length)');
  readonly #listen = this.#lib.func('int listen(int fd, int backlog)');
  readonly #accept = this.#lib.func('int accept4(int fd, void *address, void *length, int flags)');
  readonly #connect = this.#lib.func('int connect(int fd, void *address, uint length)');
  readonly #send = this.#lib.func('long send(int fd, void *data, size_t length, int flags)');
  readonly #receive = this.#lib.func('long recv(int fd, void *data, size_t length, int flags)');
  readonly #setOption = this.#lib.func('int setsockopt(int fd, int level, int name, void *value, uint length)');
  readonly #getOption = this.#lib.func(
    'int getsockopt(int fd, int level, int name, void *value, _Inout_ uint *length)',
  );

  /** Listens for TCP. */
  listenTcp(netnsName: string, local: SocketAddress): number {
    return this.#make(netnsName, AF_INET, SOCK_STREAM, 0, (fd) => {
      this.#set(fd, SO_REUSEADDR, 1);
      this.#checked('bind', this.#bind(fd, toSockaddr(local), SOCKADDR_BYTES));
      this.#checked('listen', this.#listen(fd, BACKLOG));
    });
  }

  bindUdp(netnsName: string, local: SocketAddress): number {
    return this.#make(netnsName, AF_INET, SOCK_DGRAM, 0, (fd) => {
      this.#checked('bind', this.#bind(fd, toSockaddr(local), SOCKADDR_BYTES));
    });
  }

  /** A netlink socket of the namespace that has been sent these messages. */
  openNetlink(netnsName: string, protocol: number, messages: readonly Buffer[]): number {
    const AF_NETLINK = 16;
    return this.#make(netnsName, AF_NETLINK, SOCK_RAW, protocol, (fd) => {
      for (const message of messages) this.#checked('send', this.#send(fd, message, message.length, 0));
    });
  }

  /** Connects from inside the namespace, with a mark. Rejects with SocketError, or with the signal's reason. */
  async connectTcp(netnsName: string, remote: SocketAddress, mark: number, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    const fd = this.#make(netnsName, AF_INET, SOCK_STREAM, 0, (made) => this.#set(made, SO_MARK, mark));
    try {
      if (this.#connect(fd, toSockaddr(remote), SOCKADDR_BYTES) < 0 && koffi.errno() !== koffi.os.errno.EINPROGRESS)
        this.#fail('connect');
      await writable(fd, signal);
      const value = Buffer.alloc(4);
      this.#checked('getsockopt', this.#getOption(fd, SOL_SOCKET, SO_ERROR, value, [value.length]));
      const errno = value.readInt32LE(0);
      if (errno !== 0) throw new SocketError(`connect ${formatIpv4(remote.address)}:${remote.port}`, errno);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The next connection that waits; undefined when none does. */
  accept(fd: number): number | undefined {
    for (;;) {
      const accepted = this.#accept(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (accepted >= 0) return accepted;
      const { EAGAIN, EINTR, ECONNABORTED } = koffi.os.errno;
      const errno = koffi.errno();
      if (errno === EAGAIN) return undefined;
      if (errno !== EINTR && errno !== ECONNABORTED) throw new SocketError('accept4', errno);
    }
  }

  /** Where a connection was bound before it was redirected here. */
  originalDestination(fd: number): SocketAddress {
    const value = Buffer.alloc(SOCKADDR_BYTES);
    this.#checked('getsockopt', this.#getOption(fd, SOL_IP, SO_ORIGINAL_DST, value, [value.length]));
    return { address: value.readUInt32BE(4), port: value.readUInt16BE(2) };
  }

  /** How many bytes were received; 0 when nothing is there. */
  receive(fd: number, buffer: Buffer): number {
    const length = Number(this.#receive(fd, buffer, buffer.length, 0));
    if (length >= 0) return length;
    const errno = koffi.errno();
    // Of netlink: some were lost because nobody read them in time.
    if (errno === koffi.os.errno.EAGAIN || errno === koffi.os.errno.EINTR || errno === koffi.os.errno.ENOBUFS) return 0;
    throw new SocketError('recv', errno);
  }

  #make(netnsName: string, domain: number, type: number, protocol: number, prepare: (fd: number) => void): number {
    const fd = this.#inNamespace(netnsName, () =>
      this.#checked('socket', this.#socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)),
    );
    try {
      prepare(fd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  #inNamespace<T>(netnsName: string, action: () => T): T {
    const own = openSync('/proc/thread-self/ns/net', 'r');
    try {
      const other = openSync(`/run/netns/${netnsName}`, 'r');
      try {
        this.#checked('setns', this.#setns(other, CLONE_NEWNET));
      } finally {
        closeSync(other);
      }
      try {
        return action();
      } finally {
        // Everything that follows would happen in a sandbox's network.
        if (this.#setns(own, CLONE_NEWNET) !== 0) process.abort();
      }
    } finally {
      closeSync(own);
    }
  }

  #set(fd: number, name: number, number: number): void {
    const value = Buffer.alloc(4);
    value.writeInt32LE(number);
    this.#checked('setsockopt', this.#setOption(fd, SOL_SOCKET, name, value, value.length));
  }

  #checked(syscall: string, result: number): number {
    if (result < 0) this.#fail(syscall);
    return result;
  }

  #fail(syscall: string): never {
    throw new SocketError(syscall, koffi.errno());
  }
}

/** Calls back whenever there is something to read. Returns what ends it; to be called before the descriptor is closed. */
export function onReadable(fd: number, callback: () => void): () => void {
  let open = true;
  // libuv calls back outside of Node's own callback scope, where promises would not go on; an immediate is inside.
  const poll = event.poll(fd, { readable: true }, () =>
    setImmediate(() => {
      if (open) callback();
    }),
  );
  poll.unref();
  return () => {
    open = false;
    poll.close();
  };
}

function writable(fd: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const poll = event.poll(fd, { writable: true }, () => settle(resolve));
    let settled = false;
    const settle = (end: () => void) => {
      if (settled) return;
      settled = true;
      signal.removeEventListener('abort', onAbort);
      poll.close();
      setImmediate(end);
    };
    const onAbort = () => settle(() => reject(signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

function toSockaddr({ address, port }: SocketAddress): Buffer {
  const sockaddr = Buffer.alloc(SOCKADDR_BYTES);
  sockaddr.writeUInt16LE(AF_INET, 0);
  sockaddr.writeUInt16BE(port, 2);
  sockaddr.writeUInt32BE(address, 4);
  return sockaddr;
}
