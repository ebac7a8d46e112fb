/** Version of Nestbox as a whole; kept equal to packages/cli/package.json by a test. */
export const NESTBOX_VERSION = '0.1.0';
