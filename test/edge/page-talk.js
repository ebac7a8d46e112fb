// Runs in a page: what browsers do with a server, and what came of it.
globalThis.inPage = async () => {
  const echo = await new Promise((resolve, reject) => {
    const socket = new WebSocket(location.href.replace(/^http/, 'ws'));
    socket.onopen = () => socket.send('hello');
    socket.onmessage = (event) => resolve(event.data);
    // Only the first that happens counts; a connection that ends without an answer must not be waited for.
    socket.onclose = ({ code, reason }) => reject(new Error(`the WebSocket was closed: ${code} ${reason}`));
  });
  const events = await new Promise((resolve, reject) => {
    const seen = [];
    const source = new EventSource('/events');
    source.onerror = () => reject(new Error(`the events broke off after ${seen.length}`));
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
