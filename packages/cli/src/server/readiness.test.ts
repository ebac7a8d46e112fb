import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolvePaths } from '@nestbox/kit';
import { requireFolder } from './readiness.ts';

test('a state folder is a folder, or can be made', async () => {
  for (const good of [import.meta.dirname, `${import.meta.dirname}/not-there-yet`, '/process'])
    await requireFolder(resolvePaths({ NESTBOX_DIR: good }));
  for (const [bad, why] of [
    [import.meta.filename, /which is no folder/],
    ['/proc', /takes no files/],
    ['/tmp/../proc/1/x', /takes no files/],
    ['/sys/x', /takes no files/],
  ] as const)
    await assert.rejects(requireFolder(resolvePaths({ NESTBOX_DIR: bad })), { code: 'invalid_request', message: why });
});
