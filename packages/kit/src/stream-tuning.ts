import { setFlagsFromString } from 'node:v8';

/**
 * For processes that pass bodies on: call it once at their start.
 *
 * Each chunk of a body that Node's HTTP parser passes on (requests' bodies: those of answers go past it) is a buffer of
 * 64 KiB outside V8's heap. For every 64 MiB of them V8 begins to mark its heap in hundreds of small steps, which took
 * more than half of a transfer's processor time (55 markings for 1 GiB). Without the steps it waits until the collection
 * is due and does it in one pause, of some 15 ms for a heap of 30 MiB, and rarely.
 */
export function tuneForStreams(): void {
  setFlagsFromString('--no-incremental-marking');
}
