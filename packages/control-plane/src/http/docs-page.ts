import { createHash } from 'node:crypto';

const STYLE = `
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border-bottom: 1px solid #8884; }
summary { cursor: pointer; padding: .4rem 0; font-family: ui-monospace, monospace; }
summary b { display: inline-block; width: 5rem; }
.later { opacity: .55; }
pre { overflow: auto; background: #8881; padding: .6rem; font-size: 13px; }
input { width: 100%; padding: .5rem; box-sizing: border-box; font: inherit; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }`;

const SCRIPT = `
const make = (tag, text, parent) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
};
const list = document.getElementById('operations');
const api = await (await fetch('openapi.json')).json();
document.getElementById('title').textContent = api.info.title + ' ' + api.info.version;
for (const [path, operations] of Object.entries(api.paths).sort(([a], [b]) => a.localeCompare(b)))
  for (const [method, operation] of Object.entries(operations)) {
    const entry = make('details', undefined, list);
    entry.dataset.text = (method + ' ' + path).toLowerCase();
    const head = make('summary', undefined, entry);
    make('b', method.toUpperCase(), head);
    head.append(path);
    if (operation.responses['501']) entry.className = 'later';
    if (operation.description) make('p', operation.description, entry);
    if (operation.parameters) {
      const table = make('table', undefined, entry);
      for (const { name, in: where, required, schema } of operation.parameters) {
        const row = make('tr', undefined, table);
        for (const text of [name + (required ? ' *' : ''), where, JSON.stringify(schema)]) make('td', text, row);
      }
    }
    const show = (what, content) => {
      const schema = content?.['application/json']?.schema;
      make('p', what, entry);
      if (schema) make('pre', JSON.stringify(schema, undefined, 2), entry);
    };
    if (operation.requestBody) show('Body' + (operation.requestBody.required ? ' *' : ''), operation.requestBody.content);
    for (const [status, answer] of Object.entries(operation.responses)) show(status + ': ' + answer.description, answer.content);
  }
document.getElementById('filter').addEventListener('input', (event) => {
  for (const entry of list.children) entry.hidden = !entry.dataset.text.includes(event.target.value.toLowerCase());
});`;

const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** A page that shows /openapi.json: it loads nothing from elsewhere, and runs nothing but its own script. */
export const docsPage = {
  html: `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Nestbox API</title>
<style>${STYLE}</style></head>
<body><h1 id="title">Nestbox</h1><p><a href="openapi.json">openapi.json</a></p>
<input id="filter" placeholder="Filter by method or path"><main id="operations"></main>
<script type="module">${SCRIPT}</script></body></html>
`,
  contentSecurityPolicy: `default-src 'none'; connect-src 'self'; style-src ${hash(STYLE)}; script-src ${hash(SCRIPT)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
} as const;
