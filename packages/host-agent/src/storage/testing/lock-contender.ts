import { NestboxError } from '@nestbox/contract';
import { acquireStateLock } from '../state-lock.ts';

// Started by state-lock.test.ts: says how it went and lives, with the lock if it has it, until standard input ends.
const [lockDir = ''] = process.argv.slice(2);
try {
  await acquireStateLock(lockDir);
  console.log('locked');
} catch (error) {
  console.log(NestboxError.from(error).code);
}
process.stdin.resume();
