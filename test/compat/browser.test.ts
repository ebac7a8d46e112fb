import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { browserIsMissing, openBrowser } from '../support/browser.ts';
import { vmsCannotRun } from '../support/state-folder.ts';
import { useSandbox } from '../support/suite.ts';

describe('a browser at a server in a sandbox', { skip: vmsCannotRun() || browserIsMissing() }, () => {
  const suite = useSandbox();

  test('opens what getHost() answers as it is, and follows its redirects', async () => {
    const { sandbox } = suite;
    await sandbox.files.write('/home/user/site/index.html', '<a href="docs">docs</a>');
    await sandbox.files.write('/home/user/site/docs/index.html', '<h1>inside</h1>');
    await sandbox.commands.run('python3 -m http.server 8080 --directory /home/user/site', { background: true });
    const url = `http://${sandbox.getHost(8080)}`;
    assert.match(url, /^http:\/\/8080-i[a-z0-9]{20}\.nestbox\.localhost:[0-9]+$/);
    const browser = await openBrowser();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout(60_000);
      for (const deadline = Date.now() + 60_000; ; ) {
        if ((await page.goto(url))?.status() === 200) break;
        assert.ok(Date.now() < deadline, 'the server in the sandbox is not reached');
      }
      await page.click('a');
      await page.waitForURL(`${url}/docs/`);
      assert.equal(await page.textContent('h1'), 'inside');
    } finally {
      await browser.close();
    }
  });
});
