import { z } from 'zod';

/** What the API says, in short: the status, and the stable code of an error. */
export interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly message: string;
  readonly body: unknown;
}

const errorBody = z.object({ error_code: z.string(), message: z.string() });

/** Asks a control API. */
export async function answerOf(
  apiUrl: string,
  apiKey: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<Answer> {
  const response = await fetch(apiUrl + path, {
    method,
    headers: { 'X-API-Key': apiKey, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const parsed: unknown = text === '' ? undefined : JSON.parse(text);
  const error = errorBody.safeParse(parsed).data;
  return { status: response.status, code: error?.error_code, message: error?.message ?? '', body: parsed };
}
