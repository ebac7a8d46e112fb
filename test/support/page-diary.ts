import type { TestContext } from 'node:test';
import type { Page } from 'playwright-core';

/** Tells with a test that failed what a page asked for, got and said: what a wait for the page alone does not tell. */
export function keepDiary(t: TestContext, page: Page): void {
  const begin = performance.now();
  const lines: string[] = [];
  const note = (what: string) => lines.push(`${Math.round(performance.now() - begin)} ms: ${what}`);
  page.on('console', (message) => note(`says ${message.text()}`));
  page.on('pageerror', (error) => note(`throws ${error.message}`));
  page.on('request', (request) => note(`asks ${request.method()} ${request.url()}`));
  page.on('requestfinished', (request) => note(`has ${request.url()}`));
  page.on('requestfailed', (request) => note(`has not ${request.url()}: ${request.failure()?.errorText}`));
  page.on('websocket', (socket) => {
    note(`opens ${socket.url()}`);
    socket.on('framereceived', ({ payload }) => note(`receives ${String(payload).slice(0, 200)}`));
    socket.on('socketerror', (error) => note(`loses ${socket.url()}: ${error}`));
    socket.on('close', () => note(`closed ${socket.url()}`));
  });
  t.after(() => {
    // Node has it, its types do not know it yet.
    const { passed } = t as TestContext & { readonly passed: boolean };
    if (!passed) t.diagnostic(['the page', ...lines].join('\n  '));
  });
}
