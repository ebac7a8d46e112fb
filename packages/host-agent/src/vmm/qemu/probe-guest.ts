/** Size of the firmware image; QEMU maps it right below 4 GiB. */
const IMAGE_BYTES = 64 * 1024;
const IMAGE_BASE = 0x1_0000_0000 - IMAGE_BYTES;

/**
 * Rounds of the guest's loop, each three instructions, one of them a change of memory. A real CPU needs some 50 ms, TCG a
 * few hundred. A KVM that only emulates (a nested host without hardware virtualisation) needs minutes.
 */
const LOOP_ROUNDS = 20_000_000;

export const PROBE_EXIT_PORT = 0xf4;
const PROBE_EXIT_VALUE = 0x2a;

/** QEMU's exit code when the guest wrote our value to isa-debug-exit: `value << 1 | 1` (hw/misc/debugexit.c). */
export const PROBE_EXIT_CODE = (PROBE_EXIT_VALUE << 1) | 1;

/**
 * A firmware of some hundred bytes that answers one question: does this accelerator run 64-bit code, and fast?
 *
 * Real mode alone proves nothing: there are hosts whose KVM gets through real mode by emulating each instruction and
 * then crawls through a kernel. So it goes the way a kernel goes – real mode, protected mode, page tables, long mode –
 * and counts there in memory; then it checks the count and ends QEMU through the debug-exit device.
 */
export function buildProbeGuest(): Uint8Array {
  const image = Buffer.alloc(IMAGE_BYTES);
  const u32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
  const u16 = (value: number) => [value & 0xff, (value >>> 8) & 0xff];
  const GDT = 0x800;
  const GDT_POINTER = 0x840;
  const PROTECTED = 0x100;
  const LONG = 0x200;

  // Null, 32-bit code (0x08), data (0x10), 64-bit code (0x18): flat, present, ring 0.
  image.set([...u32(0), ...u32(0), ...u32(0xffff), ...u32(0x00cf9a00)], GDT);
  image.set([...u32(0xffff), ...u32(0x00cf9200), ...u32(0xffff), ...u32(0x00af9a00)], GDT + 16);
  image.set([...u16(31), ...u32(IMAGE_BASE + GDT)], GDT_POINTER);

  // 16-bit, at the start of the image; CS base is that of the image after a reset.
  image.set([
    0xfa, // cli
    ...[0x2e, 0x66, 0x0f, 0x01, 0x16, ...u16(GDT_POINTER)], // lgdt cs:[GDT_POINTER]
    ...[0x0f, 0x20, 0xc0], // mov eax, cr0
    ...[0x0c, 0x01], // or al, 1: protection on
    ...[0x0f, 0x22, 0xc0], // mov cr0, eax
    ...[0x66, 0xea, ...u32(IMAGE_BASE + PROTECTED), ...u16(0x08)], // jmp 0x08:PROTECTED
  ]);

  const store = (address: number, value: number) => [0xc7, 0x05, ...u32(address), ...u32(value)]; // mov dword [address], value
  image.set(
    [
      ...[0x66, 0xb8, ...u16(0x10)], // mov ax, 0x10
      ...[0x8e, 0xd8], // mov ds, ax
      ...[0x8e, 0xc0], // mov es, ax
      ...[0x8e, 0xd0], // mov ss, ax
      // Page tables at 4 KiB: the first 2 MiB and the last 2 MiB below 4 GiB, each one large page mapped to itself.
      ...store(0x1000, 0x2003), // PML4[0] → PDPT
      ...store(0x2000, 0x3003), // PDPT[0] → directory of the first GiB
      ...store(0x2018, 0x4003), // PDPT[3] → directory of the fourth GiB
      ...store(0x3000, 0x0000_0083), // present, writable, large
      ...store(0x4ff8, 0xffe0_0083),
      ...[0xb8, ...u32(0x1000)], // mov eax, PML4
      ...[0x0f, 0x22, 0xd8], // mov cr3, eax
      ...[0x0f, 0x20, 0xe0], // mov eax, cr4
      ...[0x83, 0xc8, 0x20], // or eax, PAE
      ...[0x0f, 0x22, 0xe0], // mov cr4, eax
      ...[0xb9, ...u32(0xc000_0080)], // mov ecx, EFER
      ...[0x0f, 0x32], // rdmsr
      ...[0x0d, ...u32(0x100)], // or eax, LME
      ...[0x0f, 0x30], // wrmsr
      ...[0x0f, 0x20, 0xc0], // mov eax, cr0
      ...[0x0d, ...u32(0x8000_0001)], // or eax, PG | PE
      ...[0x0f, 0x22, 0xc0], // mov cr0, eax
      ...[0xea, ...u32(IMAGE_BASE + LONG), ...u16(0x18)], // jmp 0x18:LONG
    ],
    PROTECTED,
  );

  const COUNTER = [0x04, 0x25, ...u32(0x5000)]; // [0x5000], absolute
  image.set(
    [
      ...[0xb9, ...u32(LOOP_ROUNDS)], // mov ecx, LOOP_ROUNDS
      ...[0xff, ...COUNTER], // inc dword [0x5000]
      ...[0xff, 0xc9], // dec ecx
      ...[0x75, 0xf5], // jnz, back to inc
      ...[0x8b, ...COUNTER], // mov eax, [0x5000]
      ...[0x3d, ...u32(LOOP_ROUNDS)], // cmp eax, LOOP_ROUNDS
      ...[0x75, 0x04], // jne, to hlt
      ...[0xb0, PROBE_EXIT_VALUE], // mov al, PROBE_EXIT_VALUE
      ...[0xe6, PROBE_EXIT_PORT], // out PROBE_EXIT_PORT, al
      0xf4, // hlt
      ...[0xeb, 0xfd], // jmp, back to hlt
    ],
    LONG,
  );

  // The CPU's first instruction is 16 bytes below the end: jmp to the start of the image.
  image.set([0xe9, ...u16(-(0xfff0 + 3))], 0xfff0);
  return image;
}
