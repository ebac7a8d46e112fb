/** `npm run check`: lint, types and generated code; no test. */
import { checkSources } from './support/source-checks.ts';

process.exitCode = (await checkSources()) ? 0 : 1;
