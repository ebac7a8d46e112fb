/** `npm run generate`: brings the protobuf code up to date with `proto/`. */
import { updateGeneratedFiles } from './support/generated-code.ts';

const changed = await updateGeneratedFiles();
console.log(changed.length === 0 ? 'The generated code is up to date.' : `Made anew: ${changed.join(', ')}`);
