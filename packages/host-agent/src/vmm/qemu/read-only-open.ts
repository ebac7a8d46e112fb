import { access, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '@nestbox/kit';

/**
 * A shared library for LD_PRELOAD by which a file that may not be written to is opened for reading instead of failing.
 *
 * QEMU before 8.2 opens the file of a private memory mapping for writing, although it never writes to it, and keeps that
 * descriptor. Memory images are shared by sandboxes of many owners, so a VMM that was taken over must not hold one. With this
 * library images are files that its user cannot write to, and QEMU gets a descriptor for reading: all that a private
 * mapping needs (mmap(2)). Source: QEMU 7.2, softmmu/physmem.c, file_ram_open; 8.2 has `rom=off,readonly=on` for it.
 *
 * The library is a few instructions, so it is put together here rather than compiled: no compiler on users' machines.
 * Sources: System V ABI and its AMD64 supplement (object files, calling convention).
 */
const CODE = Buffer.from(
  [
    '31d2', //             __open64_2: xor edx, edx         no mode, then as open64
    '534889fb', //         open64:     push rbx; mov rbx, rdi     path
    '5589f5', //                       push rbp; mov ebp, esi     flags
    '41544189d4', //                   push r12; mov r12d, edx    mode
    '89d189f24889fe', //               mov ecx, edx; mov edx, esi; mov rsi, rdi
    'bf9cffffff31c0', //               mov edi, AT_FDCWD; xor eax, eax
    'ff1500000000', //                 call [rip + slot]          openat64
    '85c07922', //                     test eax, eax; jns done
    '89ea83e20383fa027518', //         edx = flags & O_ACCMODE; unless O_RDWR goto done
    '4489e189ea83e2fc4889de', //       mov ecx, r12d; edx = flags with O_RDONLY; mov rsi, rbx
    'bf9cffffff31c0', //               mov edi, AT_FDCWD; xor eax, eax
    'ff1500000000', //                 call [rip + slot]
    '415c5d5bc3', //       done:       pop r12; pop rbp; pop rbx; ret
  ].join(''),
  'hex',
);
/** Where the two calls have their 4-byte distance to the slot. */
const CALLS = indicesOf(CODE, Buffer.from('ff1500000000', 'hex')).map((index) => index + 2);
const OPEN64_OFFSET = 2;

const PAGE = 0x1000;
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 24;

/** The library's bytes. */
export function readOnlyOpenLibrary(): Buffer {
  const names = Buffer.from('\0openat64\0open64\0__open64_2\0');
  const nameAt = (name: string) => names.indexOf(`\0${name}\0`) + 1;
  const programHeaders = 4;
  const symbolsAt = HEADER_BYTES + programHeaders * PROGRAM_HEADER_BYTES;
  const hashAt = symbolsAt + 4 * SYMBOL_BYTES;
  const relocationsAt = hashAt + 8 * 4;
  const namesAt = relocationsAt + RELOCATION_BYTES;
  const codeAt = (namesAt + names.length + 15) & ~15;
  const textEnd = codeAt + CODE.length;
  const dynamicAt = PAGE;
  const dynamic = words([
    [4, hashAt], // DT_HASH
    [5, namesAt], // DT_STRTAB
    [6, symbolsAt], // DT_SYMTAB
    [7, relocationsAt], // DT_RELA
    [8, RELOCATION_BYTES], // DT_RELASZ
    [9, RELOCATION_BYTES], // DT_RELAENT
    [10, names.length], // DT_STRSZ
    [11, SYMBOL_BYTES], // DT_SYMENT
    [0, 0], // DT_NULL
  ]);
  const slotAt = dynamicAt + dynamic.length;
  const end = slotAt + 8;

  const file = Buffer.alloc(end);
  writeHeader(file, programHeaders);
  const READ = 4;
  const [WRITE, EXECUTE] = [2, 1];
  const segments = [
    { type: 1, flags: READ | EXECUTE, from: 0, to: textEnd, align: PAGE }, // PT_LOAD
    { type: 1, flags: READ | WRITE, from: dynamicAt, to: end, align: PAGE },
    { type: 2, flags: READ | WRITE, from: dynamicAt, to: slotAt, align: 8 }, // PT_DYNAMIC
    { type: 0x6474_e551, flags: READ | WRITE, from: 0, to: 0, align: 16 }, // PT_GNU_STACK: not executable
  ];
  for (const [index, segment] of segments.entries())
    writeProgramHeader(file, HEADER_BYTES + index * PROGRAM_HEADER_BYTES, segment);
  // The null symbol comes first. Section 0 means undefined: openat64 is the C library's.
  writeSymbol(file, symbolsAt + SYMBOL_BYTES, nameAt('openat64'), 0, 0);
  writeSymbol(file, symbolsAt + 2 * SYMBOL_BYTES, nameAt('open64'), 1, codeAt + OPEN64_OFFSET);
  writeSymbol(file, symbolsAt + 3 * SYMBOL_BYTES, nameAt('__open64_2'), 1, codeAt);
  // One bucket, a chain through all: nbucket, nchain, bucket[0], chain[0..3].
  for (const [index, word] of [1, 4, 1, 0, 2, 3, 0].entries()) file.writeUInt32LE(word, hashAt + index * 4);
  // R_X86_64_GLOB_DAT of symbol 1 into the slot.
  file.writeBigUInt64LE(BigInt(slotAt), relocationsAt);
  file.writeBigUInt64LE((1n << 32n) | 6n, relocationsAt + 8);
  names.copy(file, namesAt);
  CODE.copy(file, codeAt);
  for (const call of CALLS) file.writeInt32LE(slotAt - (codeAt + call + 4), codeAt + call);
  dynamic.copy(file, dynamicAt);
  return file;
}

/** Writes the library into a folder, if it is not there, and returns its path. */
export async function installReadOnlyOpen(folder: string): Promise<string> {
  const path = join(folder, 'read-only-open-1.so');
  try {
    await access(path);
  } catch {
    await mkdir(folder, { recursive: true });
    await writeFileAtomic(path, readOnlyOpenLibrary(), 0o444);
  }
  return path;
}

/** ELF, 64 bits, little-endian, a shared object for x86-64, with neither entry point nor sections. */
function writeHeader(file: Buffer, programHeaders: number): void {
  Buffer.from('7f454c46020101', 'hex').copy(file);
  file.writeUInt16LE(3, 16);
  file.writeUInt16LE(62, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(HEADER_BYTES), 32);
  file.writeUInt16LE(HEADER_BYTES, 52);
  file.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  file.writeUInt16LE(programHeaders, 56);
  file.writeUInt16LE(64, 58);
}

interface Segment {
  readonly type: number;
  readonly flags: number;
  readonly from: number;
  readonly to: number;
  readonly align: number;
}

/** Addresses are offsets: nothing has to be shifted. */
function writeProgramHeader(file: Buffer, at: number, { type, flags, from, to, align }: Segment): void {
  file.writeUInt32LE(type, at);
  file.writeUInt32LE(flags, at + 4);
  for (const [index, value] of [from, from, from, to - from, to - from, align].entries())
    file.writeBigUInt64LE(BigInt(value), at + 8 + index * 8);
}

/** A global function. */
function writeSymbol(file: Buffer, at: number, name: number, section: number, address: number): void {
  file.writeUInt32LE(name, at);
  file.writeUInt8(0x12, at + 4);
  file.writeUInt16LE(section, at + 6);
  file.writeBigUInt64LE(BigInt(address), at + 8);
}

function words(pairs: readonly (readonly [number, number])[]): Buffer {
  const buffer = Buffer.alloc(pairs.length * 16);
  for (const [index, value] of pairs.flat().entries()) buffer.writeBigUInt64LE(BigInt(value), index * 8);
  return buffer;
}

function indicesOf(buffer: Buffer, wanted: Buffer): number[] {
  const found: number[] = [];
  for (let at = buffer.indexOf(wanted); at !== -1; at = buffer.indexOf(wanted, at + 1)) found.push(at);
  return found;
}
