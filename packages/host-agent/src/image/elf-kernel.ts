import { decompressIfNeeded } from './decompress.ts';

/**
 * Takes the ELF kernel out of a bzImage when QEMU can boot it directly: unpacking itself is the slowest thing that a
 * kernel does on an emulated processor. Returns undefined when this is no bzImage, is packed in an unknown form, or
 * its kernel has no PVH entry (then the bzImage itself must be booted).
 */
export async function extractPvhKernel(bzImage: Uint8Array, signal?: AbortSignal): Promise<Uint8Array | undefined> {
  const payload = bzImagePayload(bzImage);
  if (payload === undefined) return undefined;
  const kernel = await decompressIfNeeded(payload, signal);
  return hasPvhEntry(kernel) ? kernel : undefined;
}

/** Fields of the setup header. Source: Documentation/arch/x86/boot.rst of the kernel. */
const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
const PROTOCOL_VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
/** The first protocol whose header says where the payload is. */
const PROTOCOL_WITH_PAYLOAD = 0x0208;
const SECTOR_BYTES = 512;
/** After the packed kernel follows its unpacked size; gzip has it inside its own form. */
const SIZE_FIELD_BYTES = 4;
const GZIP_MAGIC = 0x1f8b;

/** The packed kernel inside a bzImage. */
export function bzImagePayload(bzImage: Uint8Array): Uint8Array | undefined {
  const image = asBuffer(bzImage);
  if (image.length < PAYLOAD_LENGTH + 4 || image.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) !== 'HdrS')
    return undefined;
  if (image.readUInt16LE(PROTOCOL_VERSION) < PROTOCOL_WITH_PAYLOAD) return undefined;
  // 0 stands for 4, from times before the field.
  const setupSectors = image.readUInt8(SETUP_SECTS) || 4;
  const start = (setupSectors + 1) * SECTOR_BYTES + image.readUInt32LE(PAYLOAD_OFFSET);
  const payload = image.subarray(start, start + image.readUInt32LE(PAYLOAD_LENGTH));
  if (payload.length < SIZE_FIELD_BYTES) return undefined;
  return payload.readUInt16BE(0) === GZIP_MAGIC ? payload : payload.subarray(0, -SIZE_FIELD_BYTES);
}

/** Type of the program header that leads to notes (elf(5)), and of the note that says where PVH enters (xen/elfnote.h). */
const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const ELF_MAGIC = 0x7f454c46;
const ELFCLASS64 = 2;

/** Whether a 64-bit ELF kernel carries the note by which QEMU (`-kernel`), Firecracker and Cloud Hypervisor enter it. */
export function hasPvhEntry(kernel: Uint8Array): boolean {
  const elf = asBuffer(kernel);
  if (elf.length < 64 || elf.readUInt32BE(0) !== ELF_MAGIC || elf[4] !== ELFCLASS64) return false;
  const headersOffset = Number(elf.readBigUInt64LE(32));
  const headerSize = elf.readUInt16LE(54);
  for (let index = 0; index < elf.readUInt16LE(56); index += 1) {
    const header = elf.subarray(headersOffset + index * headerSize, headersOffset + (index + 1) * headerSize);
    if (header.length < 56) return false;
    if (header.readUInt32LE(0) !== PT_NOTE) continue;
    const offset = Number(header.readBigUInt64LE(8));
    const size = Number(header.readBigUInt64LE(32));
    if (notesHavePvhEntry(elf.subarray(offset, offset + size))) return true;
  }
  return false;
}

/** Notes lie one after the other: sizes of name and description, type, then both, each filled up to 4 bytes. */
function notesHavePvhEntry(notes: Buffer): boolean {
  let position = 0;
  while (position + 12 <= notes.length) {
    const nameSize = notes.readUInt32LE(position);
    const descriptionSize = notes.readUInt32LE(position + 4);
    const type = notes.readUInt32LE(position + 8);
    const name = notes.toString('latin1', position + 12, position + 12 + nameSize);
    if (type === XEN_ELFNOTE_PHYS32_ENTRY && name === 'Xen\0') return true;
    position += 12 + alignToFour(nameSize) + alignToFour(descriptionSize);
  }
  return false;
}

function alignToFour(size: number): number {
  return Math.ceil(size / 4) * 4;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
