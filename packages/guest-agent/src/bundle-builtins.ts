import { isBuiltin } from 'node:module';
import type { Plugin } from 'esbuild';

/**
 * Has the bundle fetch Node's own modules by `process.getBuiltinModule` where the sources say `import`.
 *
 * An `import` of a built-in module makes Node read every one of its exports, to make them bindings. Reading
 * `http.WebSocket` loads undici, and with it TLS and HTTP/2, none of which the agent uses: 30 ms on a host, and about a
 * second of each cold boot on an emulated processor.
 */
export const builtinModules: Plugin = {
  name: 'builtin-modules',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /.*/ }, ({ path }) => (isBuiltin(path) ? { path, namespace: 'builtin' } : undefined));
    onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};
