import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type SnapshotInfo, snapshotInfoBody, templateBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { createSandbox, readDetail, readError } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { hostError } from './testing/host-double-snapshots.ts';
import { startTestServer, type TestServer } from './testing/start-test-server.ts';

const take = (server: TestServer, id: string, body: unknown = {}) =>
  server.send('POST', `/sandboxes/${id}/snapshots`, body);

async function taken(server: TestServer, id: string, body: unknown = {}): Promise<SnapshotInfo> {
  const answer = await take(server, id, body);
  assert.equal(answer.status, 201, await answer.clone().text());
  return snapshotInfoBody.parse(await answer.json());
}

async function list(server: TestServer, query = ''): Promise<string[]> {
  const answer = await server.api(`/snapshots${query}`);
  assert.equal(answer.status, 200, await answer.clone().text());
  return z
    .array(snapshotInfoBody)
    .parse(await answer.json())
    .map(({ snapshotID }) => snapshotID);
}

const remove = (server: TestServer, id: string) =>
  server.api(`/templates/${encodeURIComponent(id)}`, { method: 'DELETE' });

describe('a snapshot', () => {
  test('without a name is found by the id of a new template', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const { snapshotID, names } = await taken(server, id);
    assert.match(snapshotID, /^[a-z0-9]{20}:default$/);
    assert.deepEqual(names, []);
    const [request] = host.snapshots.taken;
    assert.deepEqual([request?.sandboxId, `${request?.templateId}:default`, request?.names], [id, snapshotID, []]);
    assert.equal((await readDetail(server, id)).state, 'running');
    const bare = await server.api(`/sandboxes/${id}/snapshots`, { method: 'POST' });
    assert.notEqual(snapshotInfoBody.parse(await bare.json()).snapshotID, snapshotID);
  });

  test('with a name, with or without a tag, is found by that', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    for (const [name, full] of [
      ['first', 'first:default'],
      ['  My-Name_1 ', 'my-name_1:default'],
      ['first:v1.2_3-x', 'first:v1.2_3-x'],
      ['second:default', 'second:default'],
    ]) {
      assert.deepEqual(await taken(server, id, { name }), { snapshotID: full, names: [full] });
      assert.deepEqual(host.snapshots.taken.at(-1)?.names, [full]);
    }
  });

  test('makes sandboxes: by id, id and tag, name, name and tag', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    await taken(server, id, { name: 'work' });
    await taken(server, id, { name: 'work:v2' });
    const { snapshotID } = await taken(server, id);
    const [work, second, unnamed] = host.snapshots.taken.map(({ templateId }) => templateId);
    for (const [templateID, expected, alias] of [
      ['work', work, 'work'],
      ['WORK:default', work, 'work'],
      [work, work, 'work'],
      [`${work}:default`, work, 'work'],
      ['work:v2', second, 'work:v2'],
      [second, second, 'work:v2'],
      [`${second}:v2`, second, 'work:v2'],
      [snapshotID, unnamed, undefined],
      [unnamed, unnamed, undefined],
    ]) {
      const detail = await readDetail(server, await createSandbox(server, { templateID }));
      assert.deepEqual([detail.templateID, detail.alias], [expected, alias], templateID);
      assert.equal(host.created.at(-1)?.templateId, expected);
    }
    for (const templateID of ['work:v3', `${work}:v2`, `${unnamed}:v1`, 'v2', ':v2', 'work:']) {
      const answer = await server.send('POST', '/sandboxes', { templateID });
      assert.equal((await readError(answer)).code, 'template_not_found', templateID);
    }
  });

  test('with a name that a snapshot has replaces that one, under the same id', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const [one, two] = [await createSandbox(server), await createSandbox(server)];
    await taken(server, one, { name: 'work' });
    await taken(server, one, { name: 'work:v2' });
    await taken(server, two, { name: 'Work:default' });
    const ids = host.snapshots.taken.map(({ templateId }) => templateId);
    assert.equal(ids[0], ids[2]);
    assert.notEqual(ids[0], ids[1]);
    assert.deepEqual(await list(server, `?sandboxID=${one}`), ['work:v2']);
    assert.deepEqual(await list(server, `?sandboxID=${two}`), ['work:default']);
  });

  test('with the same new name from two at once leaves one', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const [one, two] = [await createSandbox(server), await createSandbox(server)];
    await Promise.all([taken(server, one, { name: 'work' }), taken(server, two, { name: 'work' })]);
    assert.deepEqual(await list(server), ['work:default']);
    assert.equal(new Set(host.snapshots.taken.map(({ templateId }) => templateId)).size, 1);
  });

  test('with a name that a snapshot of another host has takes its place', async () => {
    await using first = await new HostDouble('first').open();
    await using second = await new HostDouble('second').open();
    await using server = await startTestServer([first, second]);
    const [one, two] = [await createSandbox(server), await createSandbox(server)];
    assert.deepEqual([first.created.length, second.created.length], [1, 1]);
    await taken(server, one, { name: 'work' });
    await taken(server, two, { name: 'work' });
    assert.deepEqual(first.snapshots.deleted, [first.snapshots.taken[0]?.templateId]);
    assert.deepEqual(await list(server), ['work:default']);
    await createSandbox(server, { templateID: 'work' });
    assert.deepEqual([first.created.length, second.created.length], [1, 2]);
  });

  test('with a name that is none, or that a template has, is refused', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    for (const name of [
      '',
      ' ',
      'a b',
      'a/b',
      'team/name',
      'ä',
      ':',
      ':tag',
      'name:',
      'name:a:b',
      'name:a/b',
      '../x',
      'a\0b',
      'a\nb',
      'x'.repeat(200),
      'x:01234567-89ab-cdef-0123-456789abcdef',
      7,
      null,
      {},
    ]) {
      const error = await readError(await take(server, id, { name }));
      assert.equal(error.code, 'invalid_request', JSON.stringify(name));
      assert.match(error.message, /"name"/);
    }
    for (const name of ['base', 'BASE:v2', 'base0000000000000000']) {
      const error = await readError(await take(server, id, { name }));
      assert.deepEqual([error.status, error.code], [409, 'conflict'], name);
    }
    assert.equal(host.snapshots.taken.length, 0);
  });

  test('of a paused sandbox, or of none, is refused; a failure of the host is told', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    host.snapshots.snapshotGate.error = hostError('snapshot_limit', 'There are too many.');
    assert.deepEqual(await readError(await take(server, id)), {
      status: 507,
      code: 'snapshot_limit',
      message: 'There are too many.',
    });
    assert.equal((await readError(await take(server, id, { memory: false }))).code, 'not_supported');
    assert.deepEqual(await list(server), []);
    assert.equal((await readDetail(server, id)).state, 'running');
    await server.api(`/sandboxes/${id}/pause`, { method: 'POST' });
    const error = await readError(await take(server, id, { name: 'x' }));
    assert.deepEqual([error.status, error.code], [409, 'sandbox_paused']);
    assert.equal((await readError(await take(server, 'iunknown'))).code, 'sandbox_not_found');
  });

  test('is in no list of templates, but is found by its name', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    await taken(server, id, { name: 'work' });
    await taken(server, id, { name: 'work:v2' });
    await taken(server, id);
    for (const path of ['/templates', '/v2/templates']) {
      const templates = z.array(templateBody).parse(await (await server.api(path)).json());
      assert.deepEqual(
        templates.map(({ names }) => names),
        [['base']],
      );
    }
    for (const [index, alias] of ['work', 'work%3Av2'].entries())
      assert.deepEqual(await (await server.api(`/templates/aliases/${alias}`)).json(), {
        templateID: host.snapshots.taken[index]?.templateId,
        public: false,
      });
  });
});

describe('the list of snapshots', () => {
  test('is filtered by sandbox and by name, id or tag', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const [one, two] = [await createSandbox(server), await createSandbox(server)];
    await taken(server, one, { name: 'a' });
    await taken(server, one, { name: 'a:v1' });
    await taken(server, two, { name: 'b' });
    const { snapshotID } = await taken(server, two);
    const [a, , , unnamed] = host.snapshots.taken.map(({ templateId }) => templateId);
    const found = async (query: string) => new Set(await list(server, query));
    assert.equal((await list(server)).length, 4);
    assert.deepEqual(await found(`?sandboxID=${one}`), new Set(['a:default', 'a:v1']));
    assert.deepEqual(await found(`?sandboxID=${two}-nestbox`), new Set(['b:default', snapshotID]));
    assert.deepEqual(await found('?sandboxID=iunknown'), new Set());
    assert.deepEqual(await found('?sandboxID=..'), new Set());
    assert.deepEqual(await found('?name=A'), new Set(['a:default', 'a:v1']));
    assert.deepEqual(await found('?name=a:v1'), new Set(['a:v1']));
    assert.deepEqual(await found('?name=a:default'), new Set(['a:default']));
    assert.deepEqual(await found(`?name=${a}`), new Set(['a:default']));
    assert.deepEqual(await found(`?name=${unnamed}`), new Set([snapshotID]));
    assert.deepEqual(await found(`?name=${snapshotID}`), new Set([snapshotID]));
    assert.deepEqual(await found('?name=base'), new Set());
    assert.deepEqual(await found(`?sandboxID=${two}&name=a`), new Set());
  });

  test('comes in pages, newest first', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    for (const name of ['s1', 's2', 's3', 's4', 's5']) await taken(server, id, { name });
    // Three of the same moment.
    for (const [index, template] of host.templates.entries())
      template.createdAtMs = BigInt(1_800_000_000_000 + Math.floor(index / 3));
    const seen: string[] = [];
    let token: string | null = '';
    while (token !== null) {
      const page: Response = await server.api(`/snapshots?limit=2${token && `&nextToken=${token}`}`);
      const body = z.array(snapshotInfoBody).parse(await page.json());
      assert.ok(body.length > 0 && body.length <= 2);
      seen.push(...body.map(({ snapshotID }) => snapshotID));
      token = page.headers.get('x-next-token');
    }
    assert.deepEqual(new Set(seen), new Set(await list(server)));
    assert.equal(seen.length, 5);
    assert.deepEqual(new Set(seen.slice(0, 3)), new Set(['s3:default', 's4:default', 's5:default']));
  });

  test('refuses what is out of range', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    for (const query of ['limit=0', 'limit=101', 'limit=x', 'nextToken=garbage', 'nextToken=bnVsbA', 'name=a&name=b'])
      assert.equal((await readError(await server.api(`/snapshots?${query}`))).code, 'invalid_request', query);
  });
});

describe('deleting a snapshot', () => {
  test('works by id, by id and tag, by name, and by name and tag; then it is gone', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const spellings: readonly [object, (templateId: string) => string][] = [
      [{}, (templateId) => templateId],
      [{}, (templateId) => `${templateId}:default`],
      [{ name: 'work' }, () => 'work'],
      [{ name: 'work' }, () => ' WORK:default'],
      [{ name: 'work:v2' }, () => 'work:v2'],
      [{ name: 'work:v2' }, (templateId) => `${templateId}:v2`],
    ];
    for (const [body, spell] of spellings) {
      await taken(server, id, body);
      const templateId = host.snapshots.taken.at(-1)?.templateId ?? '';
      await createSandbox(server, { templateID: templateId });
      assert.equal((await remove(server, spell(templateId))).status, 204);
      assert.equal(host.snapshots.deleted.at(-1), templateId);
      assert.equal((await readError(await remove(server, spell(templateId)))).code, 'template_not_found');
      assert.deepEqual(await list(server), []);
    }
    assert.equal((await readDetail(server, id)).state, 'running');
  });

  test('is refused for a template that set-up made, and for what is not there', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    for (const id of ['base', 'base:default', 'base0000000000000000']) {
      const error = await readError(await remove(server, id));
      assert.deepEqual([error.status, error.code], [409, 'conflict']);
      assert.match(error.message, /made by set-up/);
    }
    for (const id of ['nothing', 'x'.repeat(3000), '..%2f', 'a\0b', '%'])
      assert.equal((await readError(await remove(server, id))).code, 'template_not_found', id.slice(0, 20));
    assert.deepEqual(host.snapshots.deleted, []);
  });
});

describe('what is damaged', () => {
  const listed = async <T>(server: TestServer, path: string, body: z.ZodType<T>) =>
    z.array(body).parse(await (await server.api(path)).json());

  test('is a snapshot that says so in the list, is refused by its host, and can be deleted', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    await taken(server, await createSandbox(server), { name: 'work' });
    const [template] = host.templates.filter(({ originSandboxId }) => originSandboxId !== '');
    assert.ok(template !== undefined);
    assert.deepEqual((await listed(server, '/snapshots', snapshotInfoBody))[0]?.damage, undefined);
    template.damage = 'its memory is cut';
    const [shown] = await listed(server, '/snapshots', snapshotInfoBody);
    assert.deepEqual(shown, { snapshotID: 'work:default', names: ['work:default'], damage: 'its memory is cut' });
    // Nobody can read what it was; that it is a snapshot is known all the same.
    Object.assign(template, { names: [], originSandboxId: '', vcpuCount: 0, createdAtMs: 0n });
    const snapshotID = `${template.templateId}:default`;
    assert.deepEqual(await list(server), [snapshotID]);
    assert.ok(!(await listed(server, '/templates', templateBody)).some(({ damage }) => damage !== undefined));
    host.createError = hostError('snapshot_damaged', 'Its memory is cut.');
    const refused = await readError(await server.send('POST', '/sandboxes', { templateID: snapshotID }));
    assert.deepEqual([refused.status, refused.code], [500, 'snapshot_damaged']);
    assert.equal((await remove(server, snapshotID)).status, 204);
    assert.deepEqual(await list(server), []);
  });

  test('is a template where that is so: others have it whole, and it alone is deleted', async () => {
    await using first = await new HostDouble('first').open();
    await using second = await new HostDouble('second').open();
    await using server = await startTestServer([first, second]);
    const of = (host: HostDouble) => host.templates.find(({ names }) => names.includes('base'));
    const broken = of(first);
    assert.ok(broken !== undefined);
    Object.assign(broken, { names: [], vcpuCount: 0, damage: 'template.json is no JSON' });
    const whole = (await listed(server, '/templates', templateBody)).find(({ names }) => names.includes('base'));
    assert.deepEqual([whole?.buildStatus, whole?.damage], ['ready', undefined]);
    for (let count = 0; count < 3; count++) await createSandbox(server, { templateID: 'base' });
    assert.deepEqual([first.created.length, second.created.length], [0, 3]);
    assert.equal((await remove(server, 'base')).status, 204);
    assert.deepEqual([first.snapshots.deleted, second.snapshots.deleted], [[broken.templateId], []]);
    assert.equal((await readError(await remove(server, 'base'))).code, 'conflict');
    const last = of(second);
    assert.ok(last !== undefined);
    last.damage = 'rootfs.ext4 is missing';
    const [shown] = (await listed(server, '/templates', templateBody)).filter(({ names }) => names.includes('base'));
    assert.deepEqual([shown?.buildStatus, shown?.damage], ['error', 'rootfs.ext4 is missing']);
  });
});
