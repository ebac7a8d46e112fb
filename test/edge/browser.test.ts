import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { WebSocketServer } from 'ws';
import { ROOT } from '../../scripts/support/repository.ts';
import { browserIsMissing, openBrowser } from '../support/browser.ts';
import { freePort } from '../support/free-port.ts';
import { keepDiary } from '../support/page-diary.ts';
import { type ProxyStack, startApplication, startProxyStack } from '../support/proxy-stack.ts';
import { startServerProgram } from '../support/server-program.ts';

const JUPYTER = '/usr/bin/jupyter-server';

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'nestbox-browser-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Runs a script of this folder in the page and answers what it comes to. */
async function inPage(page: Page, script: string): Promise<unknown> {
  const text = await readFile(join(import.meta.dirname, script), 'utf8');
  return await page.evaluate(`(() => {${text}\nreturn globalThis.inPage();})()`);
}

// A page that waits for something that does not come would hold everything up.
describe('a browser at a port of a sandbox', { skip: browserIsMissing(), timeout: 180_000 }, () => {
  let stack: ProxyStack;
  let browser: Browser;
  let context: BrowserContext;
  before(async () => {
    stack = await startProxyStack();
    browser = await openBrowser();
    context = await browser.newContext({ ignoreHTTPSErrors: true });
    context.setDefaultTimeout(30_000);
  });
  after(async () => {
    await browser.close();
    await stack[Symbol.asyncDispose]();
  });

  async function openPage(t: TestContext): Promise<Page> {
    const page = await context.newPage();
    keepDiary(t, page);
    return page;
  }

  /** In clear text and over TLS, where the browser speaks HTTP/2. */
  const urls = (port: number) => [
    `http://${stack.host(port)}:${stack.edgePort}`,
    `https://${stack.host(port)}:${stack.frontPort}`,
  ];

  test('walks through the folders of python’s http.server, whose redirects keep it inside', async (t) => {
    const site = await folder(t);
    await mkdir(join(site, 'docs'));
    await writeFile(join(site, 'index.html'), '<a href="docs">docs</a>');
    await writeFile(join(site, 'docs', 'index.html'), '<h1>inside</h1><script>document.title = "ran"</script>');
    const port = await startServerProgram(t, {
      file: 'python3',
      args: ['-m', 'http.server', '0', '--bind', '127.0.0.1'],
      cwd: site,
      announcement: /port (\d+) /,
    });
    for (const url of urls(port)) {
      const page = await openPage(t);
      await page.goto(url);
      // Without the slash at the end it answers 301, with a Location.
      await page.click('a');
      await page.waitForURL(`${url}/docs/`);
      assert.equal(await page.textContent('h1'), 'inside');
      assert.equal(await page.title(), 'ran');
      await page.close();
    }
  });

  test('stays inside when an application redirects to what it takes for its own address', async (t) => {
    await using app = await startApplication((incoming, response) => {
      const here = [
        `http://127.0.0.1:${app.port}/end`,
        `http://localhost:${app.port}/end`,
        `http://${incoming.headers.host}/end`,
      ];
      const index = Number(incoming.url?.slice(1));
      if (incoming.url === '/end') response.setHeader('content-type', 'text/html').end('<h1>end</h1>');
      else response.writeHead(302, { location: here[index] ?? '/end' }).end();
    });
    for (const url of urls(app.port))
      for (const way of ['/0', '/1', '/2']) {
        const page = await openPage(t);
        await page.goto(url + way);
        assert.equal(page.url(), `${url}/end`);
        await page.close();
      }
  });

  test('speaks WebSockets, gets events as they happen, sends forms, and keeps cookies apart', async (t) => {
    const requests: { protocol: string | undefined; cookie: string | undefined }[] = [];
    await using app = await startApplication((incoming, response) => {
      requests.push({ protocol: String(incoming.headers['x-forwarded-proto']), cookie: incoming.headers.cookie });
      if (incoming.url === '/events') {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        const timer = setInterval(() => response.write(`data: ${Date.now()}\n\n`), 50);
        response.once('close', () => clearInterval(timer));
      } else if (incoming.method === 'POST') {
        let bytes = 0;
        incoming.on('data', (piece: Buffer) => {
          bytes += piece.length;
        });
        incoming.on('end', () => response.end(String(bytes)));
      } else response.writeHead(200, { 'content-type': 'text/html', 'set-cookie': ['a=1', 'b=2'] }).end('<h1>app</h1>');
    });
    const sockets = new WebSocketServer({ server: app });
    sockets.on('connection', (socket) => socket.on('message', (data, binary) => socket.send(data, { binary })));
    for (const url of urls(app.port)) {
      const page = await openPage(t);
      await page.goto(url);
      const found: unknown = await inPage(page, 'page-talk.js');
      const secure = url.startsWith('https');
      assert.deepEqual(found, {
        echo: 'hello',
        events: 3,
        posted: '3000000',
        cookie: 'a=1; b=2',
        protocol: secure ? 'h2' : 'http/1.1',
      });
      assert.equal(requests.at(-1)?.cookie, 'a=1; b=2');
      assert.equal(requests.at(-1)?.protocol, secure ? 'https' : 'http');
      await page.close();
    }
    sockets.close();
  });

  test('sees a change of a module at once: Vite’s dev server, hot reload over WebSocket', async (t) => {
    const project = await folder(t);
    await symlink(join(ROOT, 'node_modules'), join(project, 'node_modules'));
    await writeFile(join(project, 'index.html'), '<h1></h1><script type="module" src="/main.js"></script>');
    const text = (word: string) =>
      `export const word = '${word}';\ndocument.querySelector('h1').textContent = word;\nwindow.loads = (window.loads ?? 0) + 1;\nif (import.meta.hot) import.meta.hot.accept();\n`;
    /** In one step, as editors save: Vite’s watcher may see a file that is being written while it is empty still. */
    const change = async (content: string) => {
      await writeFile(join(project, 'main.js.new'), content);
      await rename(join(project, 'main.js.new'), join(project, 'main.js'));
    };
    await change(text('first'));
    await writeFile(join(project, 'vite.config.js'), "export default { server: { allowedHosts: ['.localhost'] } };\n");
    const port = await startServerProgram(t, {
      file: process.execPath,
      args: [join(ROOT, 'node_modules', 'vite', 'bin', 'vite.js'), '--host', '127.0.0.1', '--port', '0'],
      cwd: project,
      announcement: /http:\/\/127\.0\.0\.1:(\d+)\//,
    });
    for (const [index, url] of urls(port).entries()) {
      const page = await openPage(t);
      const connected = page.waitForEvent('console', (message) => message.text().includes('[vite] connected'));
      await Promise.all([page.goto(url), connected]);
      await page.waitForFunction("document.querySelector('h1')?.textContent");
      await page.evaluate('window.loads = 10');
      const changed = `document.querySelector('h1')?.textContent === 'second ${index}'`;
      // Its watcher may not be there yet for the first change.
      for (let attempt = 0; attempt < 10 && !(await page.evaluate(changed)); attempt++) {
        await change(text(`second ${index}`));
        await page.waitForFunction(changed, undefined, { timeout: 3000 }).catch(() => {});
      }
      await page.waitForFunction(changed);
      // Replaced in the page, which was not loaded again.
      assert.ok(Number(await page.evaluate('window.loads')) > 10);
      await page.close();
    }
  });

  test('works with a Jupyter server: files, a kernel, and its messages over WebSocket', {
    skip: existsSync(JUPYTER) ? false : `${JUPYTER} is missing; run: apt-get install jupyter-server python3-ipykernel`,
  }, async (t) => {
    const home = await folder(t);
    const port = await startServerProgram(t, {
      file: JUPYTER,
      args: [
        '--no-browser',
        '--allow-root',
        '--ip=127.0.0.1',
        // It knows no port 0, but takes the next one when this is taken.
        `--port=${await freePort()}`,
        '--ServerApp.token=secret',
        '--ServerApp.allow_remote_access=True',
        `--ServerApp.root_dir=${home}`,
      ],
      cwd: home,
      announcement: /http:\/\/127\.0\.0\.1:(\d+)\//,
    });
    for (const url of urls(port)) {
      const page = await openPage(t);
      await page.goto(`${url}/login`);
      const output = await inPage(page, 'page-kernel.js');
      assert.equal(output, '42\n');
      await page.close();
    }
  });
});
