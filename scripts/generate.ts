/** `npm run generate`: makes the protobuf code anew from `proto/`. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { generateCode } from './support/generated-code.ts';
import { GENERATED_DIR, ROOT } from './support/repository.ts';

await rm(join(ROOT, GENERATED_DIR), { recursive: true, force: true });
await generateCode(ROOT);
