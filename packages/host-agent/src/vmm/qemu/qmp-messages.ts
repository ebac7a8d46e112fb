import { StringDecoder } from 'node:string_decoder';
import { z } from 'zod';

/** What QEMU says on a QMP socket. Source: QEMU's docs/interop/qmp-spec, 2.2 to 2.5. */
export type QmpMessage =
  | { readonly kind: 'greeting'; readonly version: string }
  | { readonly kind: 'return'; readonly id: number | undefined; readonly value: unknown }
  | {
      readonly kind: 'error';
      readonly id: number | undefined;
      readonly errorClass: string;
      readonly description: string;
    }
  | { readonly kind: 'event'; readonly name: string; readonly data: Readonly<Record<string, unknown>> };

/** The longest line taken; QEMU's largest answers (schemas) stay below 1 MiB. */
export const MAX_QMP_LINE_LENGTH = 16 * 1024 * 1024;

export class QmpProtocolError extends Error {
  override readonly name = 'QmpProtocolError';
}

const id = z.number().optional();
const qemuVersion = z.object({ major: z.int(), minor: z.int(), micro: z.int() });
const wire = z.union([
  z.object({ QMP: z.object({ version: z.object({ qemu: qemuVersion }) }) }).transform(({ QMP }): QmpMessage => {
    const { major, minor, micro } = QMP.version.qemu;
    return { kind: 'greeting', version: `${major}.${minor}.${micro}` };
  }),
  z
    .object({ error: z.object({ class: z.string(), desc: z.string() }), id })
    .transform(
      ({ error, id }): QmpMessage => ({ kind: 'error', id, errorClass: error.class, description: error.desc }),
    ),
  z
    .object({ event: z.string(), data: z.record(z.string(), z.unknown()).optional() })
    .transform(({ event, data }): QmpMessage => ({ kind: 'event', name: event, data: data ?? {} })),
  // Last: `return` may be any value, so only its presence tells.
  z
    .object({ return: z.unknown(), id })
    .refine((message) => 'return' in message)
    .transform((message): QmpMessage => ({ kind: 'return', id: message.id, value: message.return })),
]);

/** Cuts the stream of bytes into messages, however they were split on the way. One JSON object a line. */
export class QmpMessageReader {
  readonly #decoder = new StringDecoder('utf8');
  #pending = '';

  /** Returns the messages that this piece completed. Throws QmpProtocolError for what is no QMP; the stream is lost then. */
  push(chunk: Buffer): QmpMessage[] {
    const lines = (this.#pending + this.#decoder.write(chunk)).split('\n');
    this.#pending = lines.pop() ?? '';
    if (this.#pending.length > MAX_QMP_LINE_LENGTH) throw new QmpProtocolError('a line has no end');
    return lines.filter((line) => line.trim() !== '').map(parseLine);
  }
}

function parseLine(line: string): QmpMessage {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new QmpProtocolError(`not JSON: ${line.slice(0, 200)}`, { cause });
  }
  const message = wire.safeParse(value);
  if (!message.success) throw new QmpProtocolError(`no QMP message: ${line.slice(0, 200)}`, { cause: message.error });
  return message.data;
}
