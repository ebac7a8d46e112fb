import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const CHROMIUM = '/usr/bin/chromium';

/** Why tests cannot use a browser here, for `skip`; false when they can. */
export function browserIsMissing(): string | false {
  return existsSync(CHROMIUM) ? false : `${CHROMIUM} is missing; run: apt-get install chromium`;
}

/** Debian's chromium without a window. It knows by itself that names below `localhost` mean this machine. */
export function openBrowser(): Promise<Browser> {
  // Root has no sandbox of the browser's own; the pages are ours.
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}
