// Runs in a page: what browsers do with a server, and what came of it.
globalThis.inPage = async () => {
  const echo = await new Promise((resolve, reject) => {
    const socket = new WebSocket(location.href.replace(/^http/, 'ws'));
    socket.onopen = () => socket.send('hello');
    socket.onmessage = (event) => resolve(event.data);
    socket.onerror = reject;
  });
  const events = await new Promise((resolve) => {
    const seen = [];
    const source = new EventSource('/events');
    source.onmessage = (event) => {
      seen.push(event.data);
      if (seen.length < 3) return;
      source.close();
      resolve(seen.length);
    };
  });
  const posted = await (await fetch('/', { method: 'POST', body: 'x'.repeat(3_000_000) })).text();
  const entries = performance.getEntriesByType('navigation');
  return { echo, events, posted, cookie: document.cookie, protocol: entries[0]?.nextHopProtocol };
};
