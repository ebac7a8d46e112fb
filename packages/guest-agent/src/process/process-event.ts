import type { EndEvent } from './exit-status.ts';

export type OutputStream = 'stdout' | 'stderr' | 'pty';

/** One message of a Start or Connect stream; both have the same shape. */
export interface ProcessMessage {
  readonly event: { readonly event: ProcessEvent };
}

type ProcessEvent =
  | { readonly case: 'start'; readonly value: { readonly pid: number } }
  | {
      readonly case: 'data';
      readonly value: { readonly output: { readonly case: OutputStream; readonly value: Uint8Array<ArrayBuffer> } };
    }
  | { readonly case: 'end'; readonly value: EndEvent }
  | { readonly case: 'keepalive'; readonly value: Record<string, never> };

export function startMessage(pid: number): ProcessMessage {
  return { event: { event: { case: 'start', value: { pid } } } };
}

export function dataMessage(stream: OutputStream, bytes: Uint8Array<ArrayBuffer>): ProcessMessage {
  return { event: { event: { case: 'data', value: { output: { case: stream, value: bytes } } } } };
}

export function endMessage(end: EndEvent): ProcessMessage {
  return { event: { event: { case: 'end', value: end } } };
}

export function keepAliveMessage(): ProcessMessage {
  return { event: { event: { case: 'keepalive', value: {} } } };
}
