import { loadKernelModule } from './kernel-module.ts';
import { checked, libc, SystemCallError } from './libc.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 0o2_000_003;
const NETLINK_SOCK_DIAG = 4;
const MSG_DONTWAIT = 0x40;
const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 1;
const NLM_F_REQUEST_ACK = 5;
const IPPROTO_TCP = 6;
const ENOENT = 2;
const TCP_LISTEN = 10;
/** INET_DIAG_NOCOOKIE: whichever socket has these addresses. */
const NO_COOKIE = Buffer.alloc(8, 0xff);

/** struct nlmsghdr, struct inet_diag_req_v2 (sock_diag(7)). */
const HEADER_BYTES = 16;
const REQUEST_BYTES = HEADER_BYTES + 56;
const REPLY_BYTES = 4096;
/** struct inet_diag_msg, behind the header. */
const REPLY_STATE = HEADER_BYTES + 1;
const REPLY_COOKIE = HEADER_BYTES + 44;

/** What the kernel needs for it; compiled in on some. */
const MODULES = ['kernel/net/ipv4/inet_diag.ko', 'kernel/net/ipv4/tcp_diag.ko'] as const;

/** One end of a TCP connection; addresses of 4 or 16 bytes, in network order. */
export interface TcpEnd {
  readonly localAddress: Uint8Array;
  readonly localPort: number;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
}

/** Makes the kernel ready for `destroyTcpConnections` ahead of time. Throws what `loadKernelModule` throws. */
export function loadSocketDiag(): void {
  for (const module of MODULES) loadKernelModule(module);
}

/**
 * Closes TCP connections of whatever process: it gets ECONNABORTED at once, and the peer, if any is left, a reset. Those
 * that are gone meanwhile are fine. Needs CAP_NET_ADMIN and a kernel with CONFIG_INET_DIAG_DESTROY. Throws SystemCallError.
 */
export function destroyTcpConnections(connections: readonly TcpEnd[]): void {
  const calls = bindCalls();
  const socket = checked('socket', calls.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_SOCK_DIAG));
  try {
    for (const connection of connections) destroy(calls, socket, connection);
  } finally {
    calls.close(socket);
  }
}

interface SocketCalls {
  readonly socket: (domain: number, type: number, protocol: number) => number;
  readonly send: (socket: number, data: Buffer, length: number, flags: number) => number;
  readonly receive: (socket: number, data: Buffer, length: number, flags: number) => number;
  readonly close: (socket: number) => number;
}

function bindCalls(): SocketCalls {
  const lib = libc();
  return {
    socket: lib.func('int socket(int domain, int type, int protocol)'),
    send: lib.func('int64_t send(int socket, const void *data, size_t length, int flags)'),
    receive: lib.func('int64_t recv(int socket, void *data, size_t length, int flags)'),
    close: lib.func('int close(int fd)'),
  };
}

/**
 * Finds the connection first: a request that names addresses alone falls, when the connection has just gone, to the socket that
 * listens on its port, and would end a program's server. The cookie that the kernel tells names this one socket.
 */
function destroy(calls: SocketCalls, socket: number, connection: TcpEnd): void {
  const found = ask(calls, socket, request(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, connection, NO_COOKIE), 'find');
  if (found === undefined || found.readUInt8(REPLY_STATE) === TCP_LISTEN) return;
  const cookie = found.subarray(REPLY_COOKIE, REPLY_COOKIE + 8);
  ask(calls, socket, request(SOCK_DESTROY, NLM_F_REQUEST_ACK, connection, cookie), 'destroy');
}

/** Undefined when there is no such socket, or no more than an acknowledgement to read. Throws SystemCallError. */
function ask(calls: SocketCalls, socket: number, message: Buffer, what: string): Buffer | undefined {
  checked(`send (${what} a socket)`, calls.send(socket, message, message.length, 0));
  // The kernel answers a request before send returns.
  const reply = Buffer.alloc(REPLY_BYTES);
  const length = checked(`recv (${what} a socket)`, calls.receive(socket, reply, reply.length, MSG_DONTWAIT));
  if (length < HEADER_BYTES + 4) return undefined;
  if (reply.readUInt16LE(4) !== NLMSG_ERROR) return length >= REPLY_COOKIE + 8 ? reply : undefined;
  const errno = -reply.readInt32LE(HEADER_BYTES);
  if (errno !== 0 && errno !== ENOENT) throw new SystemCallError(`${what} a socket`, errno);
  return undefined;
}

function request(
  type: number,
  flags: number,
  { localAddress, localPort, remoteAddress, remotePort }: TcpEnd,
  cookie: Uint8Array,
): Buffer {
  const message = Buffer.alloc(REQUEST_BYTES);
  message.writeUInt32LE(REQUEST_BYTES, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags, 6);
  message.writeUInt8(localAddress.length === 4 ? AF_INET : AF_INET6, 16);
  message.writeUInt8(IPPROTO_TCP, 17);
  // Every state.
  message.writeUInt32LE(0xffff_ffff, 20);
  message.writeUInt16BE(localPort, 24);
  message.writeUInt16BE(remotePort, 26);
  message.set(localAddress, 28);
  message.set(remoteAddress, 44);
  message.set(cookie, 64);
  return message;
}
