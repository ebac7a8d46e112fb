import { checked, libc } from './libc.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SIOCADDRT = 0x890b;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const IFF_UP = 1;
const RTF_UP_GATEWAY = 3;
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;
/** struct rtentry of 64-bit kernels: three addresses behind a word, then the flags. */
const RTENTRY_BYTES = 120;
const RTENTRY_GATEWAY = 24;
const RTENTRY_FLAGS = 56;

/** IPv4 settings of network interfaces (netdevice(7), rtentry of route(8)). Each method throws SystemCallError. */
export class NetworkInterfaces implements Disposable {
  readonly #ioctl: (fd: number, request: number, argument: Buffer) => number = libc().func(
    'int ioctl(int fd, unsigned long request, void *argument)',
  );
  readonly #socket: number;

  constructor() {
    const socket: (domain: number, type: number, protocol: number) => number = libc().func(
      'int socket(int domain, int type, int protocol)',
    );
    this.#socket = checked('socket', socket(AF_INET, SOCK_DGRAM, 0));
  }

  bringUp(name: string): void {
    const request = this.#request(name);
    checked('ioctl SIOCGIFFLAGS', this.#ioctl(this.#socket, SIOCGIFFLAGS, request));
    request.writeInt16LE(request.readInt16LE(IFNAMSIZ) | IFF_UP, IFNAMSIZ);
    checked('ioctl SIOCSIFFLAGS', this.#ioctl(this.#socket, SIOCSIFFLAGS, request));
  }

  setAddress(name: string, address: string, prefixLength: number): void {
    const mask = ((0xffff_ffff << (32 - prefixLength)) >>> 0).toString(16).padStart(8, '0');
    for (const [command, bytes] of [
      [SIOCSIFADDR, addressBytes(address)],
      [SIOCSIFNETMASK, Buffer.from(mask, 'hex')],
    ] as const) {
      const request = this.#request(name);
      request.writeUInt16LE(AF_INET, IFNAMSIZ);
      bytes.copy(request, IFNAMSIZ + 4);
      checked('ioctl SIOCSIFADDR', this.#ioctl(this.#socket, command, request));
    }
  }

  /** Adds the default route. */
  setGateway(gateway: string): void {
    const route = Buffer.alloc(RTENTRY_BYTES);
    for (const offset of [8, RTENTRY_GATEWAY, 40]) route.writeUInt16LE(AF_INET, offset);
    addressBytes(gateway).copy(route, RTENTRY_GATEWAY + 4);
    route.writeUInt16LE(RTF_UP_GATEWAY, RTENTRY_FLAGS);
    checked('ioctl SIOCADDRT', this.#ioctl(this.#socket, SIOCADDRT, route));
  }

  [Symbol.dispose](): void {
    libc().func('int close(int fd)')(this.#socket);
  }

  #request(name: string): Buffer {
    const request = Buffer.alloc(IFREQ_BYTES);
    request.write(name, 0, IFNAMSIZ - 1, 'latin1');
    return request;
  }
}

function addressBytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}
