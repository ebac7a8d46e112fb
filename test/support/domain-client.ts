/**
 * A program of a user, run by domain.test.ts: the e2b client as it comes, told where to go by its environment alone. Prints
 * what it found as one line of JSON.
 */
import { Sandbox } from 'e2b';
import { WebSocket } from 'ws';

const found: Record<string, unknown> = {};
const sandbox = await Sandbox.create('base', { timeoutMs: 300_000 });
try {
  found.host = sandbox.getHost(8080);
  found.command = (await sandbox.commands.run('echo out')).stdout;
  await sandbox.files.write('/home/user/in.txt', 'by the client');
  found.file = await sandbox.files.read('/home/user/in.txt');
  const large = 'nestbox '.repeat(500_000);
  await sandbox.files.write('/home/user/large.txt', large);
  found.largeIsWhole = (await sandbox.files.read('/home/user/large.txt')) === large;

  const upload = await sandbox.uploadUrl('/home/user/signed.txt', { useSignatureExpiration: 60 });
  const form = new FormData();
  form.append('file', new Blob(['by a signed URL']), 'signed.txt');
  found.upload = (await fetch(upload, { method: 'POST', body: form })).status;
  const download = await sandbox.downloadUrl('/home/user/signed.txt', { useSignatureExpiration: 60 });
  found.download = await (await fetch(download)).text();
  found.forged = (await fetch(download.replace('signed.txt', 'in.txt'))).status;

  let output = '';
  const seen = Promise.withResolvers<void>();
  const pty = await sandbox.pty.create({
    cols: 80,
    rows: 24,
    onData: (data) => {
      output += Buffer.from(data).toString();
      if (output.includes('42')) seen.resolve();
    },
  });
  await sandbox.pty.sendInput(pty.pid, Buffer.from('echo $((6 * 7))\n'));
  await seen.promise;
  found.pty = true;
  await pty.kill();

  await sandbox.files.write('/home/user/site/index.html', '<h1>from the sandbox</h1>');
  await sandbox.commands.run('python3 -m http.server 8080 --directory /home/user/site', { background: true });
  const site = `https://${sandbox.getHost(8080)}`;
  let page = await fetch(site);
  for (const end = Date.now() + 30_000; page.status === 502 && Date.now() < end; ) page = await fetch(site);
  found.page = await page.text();
  found.socket = await new Promise((resolve) => {
    const socket = new WebSocket(site.replace('https', 'wss'));
    socket.on('unexpected-response', (_request, response) => resolve(response.statusCode));
    socket.on('error', (error) => resolve(error.message));
  });

  await sandbox.pause();
  const same = await Sandbox.connect(sandbox.sandboxId);
  found.afterPause = await same.files.read('/home/user/in.txt');
  const listed = await Sandbox.list().nextItems();
  found.listed = listed.map(({ sandboxId }) => sandboxId).includes(sandbox.sandboxId);
} finally {
  found.killed = await sandbox.kill();
}
found.running = await sandbox.isRunning();
console.log(JSON.stringify(found));
process.exit(0);
