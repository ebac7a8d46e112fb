import { RestError, type RestHandler, sendEmpty } from '../rest.ts';
import type { Lifecycle } from './lifecycle.ts';

/** POST /snapshot/prepare. */
export function prepareSnapshotRoute(lifecycle: Lifecycle): RestHandler {
  return async (_request, response) => {
    await lifecycle.prepareSnapshot();
    sendEmpty(response, 204);
  };
}

/** POST /fsfreeze and /fsthaw: the root file system of a guest; never that of a machine the agent is only run on. */
export function rootFreezeRoute(lifecycle: Lifecycle, frozen: boolean): RestHandler {
  return async (_request, response, _url, context) => {
    if (!context.isInit) throw new RestError(503, 'the root file system can be frozen inside a sandbox only');
    try {
      await (frozen ? lifecycle.rootFreeze.freeze() : lifecycle.rootFreeze.thaw());
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new RestError(500, `the root file system could not be ${frozen ? 'frozen' : 'thawed'}: ${reason}`, {
        cause,
      });
    }
    sendEmpty(response, 204);
  };
}
