import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiDescription, findApiDescription, readApiDescription } from './api-description.ts';

const YAML = `
info: { version: "1" }
servers: [{ url: "http://localhost/api/v1" }]
paths:
  /disks/{id}:
    put:
      parameters:
        - { in: path, required: true }
        - { in: body, required: true, schema: { $ref: "#/definitions/Disk" } }
      responses: { 204: {}, 400: {} }
  /info:
    get: { responses: { 200: {} } }
definitions:
  Disk:
    type: object
    required: [path]
    properties:
      path: { type: string, minLength: 1 }
      kind: { type: string, enum: [Raw, Qcow2] }
      size: { type: integer, minimum: 1, maximum: 9 }
      tags: { type: array, items: { type: string } }
`;

test('requests are held against paths, methods, required fields, types, limits, and unknown fields', () => {
  const api = new ApiDescription(YAML);
  const put = (body: unknown) => api.checkRequest('PUT', '/api/v1/disks/a', body);
  assert.equal(put({ path: '/a', kind: 'Raw', size: 3, tags: ['x'] }), undefined);
  for (const [body, problem] of [
    [undefined, /needs a body/],
    [{}, /path is missing/],
    [{ path: 3 }, /is no string/],
    [{ path: '' }, /too short/],
    [{ path: '/a', kind: 'raw' }, /is none of/],
    [{ path: '/a', size: 0 }, /less than 1/],
    [{ path: '/a', size: 10 }, /more than 9/],
    [{ path: '/a', size: 1.5 }, /is no integer/],
    [{ path: '/a', tags: [1] }, /tags\[0\]/],
    [{ path: '/a', mode: 'x' }, /mode is unknown/],
    [[], /is no object/],
  ] satisfies [unknown, RegExp][])
    assert.match(put(body) ?? '', problem, JSON.stringify(body));
  assert.match(api.checkRequest('PATCH', '/api/v1/disks/a', {}) ?? '', /has no PATCH/);
  assert.match(api.checkRequest('GET', '/api/v1/nothing', undefined) ?? '', /there is no/);
  assert.match(api.checkRequest('GET', '/api/v1/info', {}) ?? '', /takes no body/);
  assert.match(api.checkStatus('PUT', '/api/v1/disks/a', 500) ?? '', /never answers 500/);
  assert.equal(api.checkStatus('PUT', '/api/v1/disks/a', 204), undefined);
});

for (const name of ['firecracker', 'cloud-hypervisor'] as const) {
  const path = findApiDescription(name);
  test(`the description of ${name} can be read`, { skip: path === undefined ? 'it is not here' : false }, () => {
    const api = readApiDescription(path ?? '');
    const [method, call] = name === 'firecracker' ? ['PATCH', '/vm'] : ['PUT', '/api/v1/vm.resize'];
    const good = name === 'firecracker' ? { state: 'Paused' } : { desired_balloon: 1 };
    assert.equal(api.checkRequest(method, call, good), undefined);
    assert.match(api.checkRequest(method, call, { ...good, sate: 1 }) ?? '', /sate is unknown/);
  });
}
