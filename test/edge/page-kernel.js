// Runs in a page: starts a Jupyter kernel, lets it calculate, and answers what it printed.
globalThis.inPage = async () => {
  const headers = { Authorization: 'token secret' };
  const kernel = await (await fetch('/api/kernels', { method: 'POST', headers })).json();
  const socket = new WebSocket(
    `${location.origin.replace(/^http/, 'ws')}/api/kernels/${kernel.id}/channels?token=secret&session_id=one`,
  );
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  const answer = new Promise((resolve) => {
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.msg_type === 'stream') resolve(message.content.text);
    };
  });
  const header = { msg_id: 'm1', username: 'u', session: 'one', msg_type: 'execute_request', version: '5.3' };
  const content = {
    code: 'print(6 * 7)',
    silent: false,
    store_history: true,
    user_expressions: {},
    allow_stdin: false,
  };
  socket.send(JSON.stringify({ header, parent_header: {}, metadata: {}, content, channel: 'shell' }));
  const text = await answer;
  socket.close();
  await fetch(`/api/kernels/${kernel.id}`, { method: 'DELETE', headers });
  return text;
};
