/** Answers of the control API with what its schemas ask for, for tests to change in the fields that they are about. */
export const SANDBOX = {
  sandboxID: 'i1',
  templateID: 'base',
  clientID: 'nestbox',
  envdVersion: '0.6.13',
  envdAccessToken: 'secret',
};

export const SANDBOX_DETAIL = {
  ...SANDBOX,
  startedAt: '2026-01-01T00:00:00Z',
  endAt: '2026-01-01T00:05:00Z',
  cpuCount: 2,
  memoryMB: 512,
  diskSizeMB: 1024,
  state: 'running',
};
