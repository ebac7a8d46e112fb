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
const NLMSG_DONE = 3;
const NLM_F_REQUEST_ACK = 0x005;
const NLM_F_REQUEST_DUMP = 0x301;
const IPPROTO_TCP = 6;
const ENOENT = 2;

/** include/net/tcp_states.h of the kernel. */
export const TCP_ESTABLISHED = 1;
export const TCP_FIN_WAIT1 = 4;
export const TCP_FIN_WAIT2 = 5;
export const TCP_CLOSE_WAIT = 8;
export const TCP_LAST_ACK = 9;
export const TCP_LISTEN = 10;
export const TCP_CLOSING = 11;

/** struct nlmsghdr, and struct inet_diag_req_v2 behind it (sock_diag(7)). */
const HEADER_BYTES = 16;
const REQUEST_BYTES = HEADER_BYTES + 56;
const REQUEST_STATES = HEADER_BYTES + 4;
const REQUEST_SOCKET = HEADER_BYTES + 8;
/** struct inet_diag_msg begins with family, state and two more bytes; struct inet_diag_sockid follows. */
const REPLY_SOCKET = 4;
/** The kernel sends no more at once than this holds. */
const REPLY_BYTES = 32 * 1024;

/** struct inet_diag_sockid: two ports, two addresses of up to 16 bytes, an interface, a cookie. */
const LOCAL_PORT = 0;
const REMOTE_PORT = 2;
const LOCAL_ADDRESS = 4;
const REMOTE_ADDRESS = 20;
const COOKIE = 40;
const COOKIE_BYTES = 8;

/** What the kernel needs for it; compiled in on some. */
const MODULES = ['kernel/net/ipv4/inet_diag.ko', 'kernel/net/ipv4/tcp_diag.ko'] as const;

/** A TCP socket of this network namespace. */
export interface TcpSocket {
  readonly family: 4 | 6;
  /** TCP_ESTABLISHED and so on. */
  readonly state: number;
  /** Network order, in hexadecimal: 8 digits for IPv4, 32 for IPv6. */
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Names this one socket among those that have had the same addresses; in hexadecimal. */
  readonly cookie: string;
}

interface NetlinkCalls {
  readonly socket: (domain: number, type: number, protocol: number) => number;
  readonly send: (socket: number, data: Buffer, length: number, flags: number) => number;
  readonly receive: (socket: number, data: Buffer, length: number, flags: number) => number;
  readonly close: (socket: number) => number;
}

/** Loads what kernels have as modules. Throws what `loadKernelModule` throws. */
export function loadSocketDiag(): void {
  for (const module of MODULES) loadKernelModule(module);
}

/**
 * The kernel's socket diagnosis (sock_diag(7)): two short questions in place of the long texts of /proc/net/tcp, which cost a guest that was
 * just restored, and has all of that code before it for the first time, tens of milliseconds to write and to read. Synchronous: nothing else
 * happens in the agent meanwhile. Opened with its first question; throws SystemCallError.
 */
export class SocketDiag {
  readonly #calls: NetlinkCalls = bindCalls();
  readonly #reply: Buffer = Buffer.alloc(REPLY_BYTES);
  #socket: number | undefined;

  /** The sockets in one of these states, TCP_ESTABLISHED and so on. */
  list(states: readonly number[]): TcpSocket[] {
    const sockets: TcpSocket[] = [];
    for (const family of [AF_INET, AF_INET6]) {
      const request = newRequest(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, family);
      request.writeUInt32LE(
        states.reduce((mask, state) => mask | (1 << state), 0),
        REQUEST_STATES,
      );
      this.#ask(request, 'listing sockets', (body) => sockets.push(readSocket(body)));
    }
    return sockets;
  }

  /**
   * Closes connections of whatever process: it gets ECONNABORTED at once, and the peer, if any is left, a reset. Those that are gone
   * meanwhile are fine. Needs CAP_NET_ADMIN and a kernel with CONFIG_INET_DIAG_DESTROY.
   */
  destroy(connections: readonly TcpSocket[]): void {
    for (const connection of connections) {
      const request = newRequest(SOCK_DESTROY, NLM_F_REQUEST_ACK, connection.family === 4 ? AF_INET : AF_INET6);
      // The cookie matters: addresses alone would mean, once the connection is gone, the server that listens on its port.
      writeSocket(request.subarray(REQUEST_SOCKET), connection);
      this.#ask(request, 'destroying a socket');
    }
  }

  close(): void {
    if (this.#socket !== undefined) this.#calls.close(this.#socket);
    this.#socket = undefined;
  }

  /** Sends one message and reads all of the answer; the kernel has it ready when `send` returns. */
  #ask(request: Buffer, what: string, onSocket?: (body: Buffer) => void): void {
    const { socket, send, receive } = this.#calls;
    this.#socket ??= checked('socket', socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_SOCK_DIAG));
    try {
      checked(`send (${what})`, send(this.#socket, request, request.length, 0));
      for (let isDone = false; !isDone; ) {
        const length = checked(`recv (${what})`, receive(this.#socket, this.#reply, this.#reply.length, MSG_DONTWAIT));
        isDone = readMessages(this.#reply.subarray(0, length), what, onSocket);
      }
    } catch (error) {
      // What is left of a broken answer must not be taken for the next one.
      this.close();
      throw error;
    }
  }
}

/** Whether the answer is complete. Throws SystemCallError for an error in it. */
function readMessages(messages: Buffer, what: string, onSocket: ((body: Buffer) => void) | undefined): boolean {
  for (let at = 0; at + HEADER_BYTES <= messages.length; ) {
    const length = messages.readUInt32LE(at);
    const type = messages.readUInt16LE(at + 4);
    if (type === NLMSG_DONE) return true;
    if (type === NLMSG_ERROR) {
      const errno = -messages.readInt32LE(at + HEADER_BYTES);
      if (errno !== 0 && errno !== ENOENT) throw new SystemCallError(what, errno);
      return true;
    }
    onSocket?.(messages.subarray(at + HEADER_BYTES, at + length));
    // Each message is padded to four bytes.
    at += Math.max(HEADER_BYTES, (length + 3) & ~3);
  }
  return false;
}

function newRequest(type: number, flags: number, family: number): Buffer {
  const message = Buffer.alloc(REQUEST_BYTES);
  message.writeUInt32LE(REQUEST_BYTES, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags, 6);
  message[HEADER_BYTES] = family;
  message[HEADER_BYTES + 1] = IPPROTO_TCP;
  return message;
}

function readSocket(body: Buffer): TcpSocket {
  const family = body[0] === AF_INET ? 4 : 6;
  const id = body.subarray(REPLY_SOCKET);
  const bytes = family === 4 ? 4 : 16;
  return {
    family,
    state: body[1] ?? 0,
    localAddress: id.toString('hex', LOCAL_ADDRESS, LOCAL_ADDRESS + bytes),
    localPort: id.readUInt16BE(LOCAL_PORT),
    remoteAddress: id.toString('hex', REMOTE_ADDRESS, REMOTE_ADDRESS + bytes),
    remotePort: id.readUInt16BE(REMOTE_PORT),
    cookie: id.toString('hex', COOKIE, COOKIE + COOKIE_BYTES),
  };
}

function writeSocket(id: Buffer, { localAddress, localPort, remoteAddress, remotePort, cookie }: TcpSocket): void {
  id.writeUInt16BE(localPort, LOCAL_PORT);
  id.writeUInt16BE(remotePort, REMOTE_PORT);
  id.write(localAddress, LOCAL_ADDRESS, 'hex');
  id.write(remoteAddress, REMOTE_ADDRESS, 'hex');
  id.write(cookie, COOKIE, 'hex');
}

function bindCalls(): NetlinkCalls {
  const lib = libc();
  return {
    socket: lib.func('int socket(int domain, int type, int protocol)'),
    send: lib.func('int64_t send(int socket, const void *data, size_t length, int flags)'),
    receive: lib.func('int64_t recv(int socket, _Out_ void *data, size_t length, int flags)'),
    close: lib.func('int close(int fd)'),
  };
}
