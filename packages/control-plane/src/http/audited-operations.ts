/**
 * What each route that changes something is called in the audit trail. A test keeps it complete. Names begin with the kind
 * of thing that is changed.
 */
export const AUDITED_OPERATIONS: Readonly<Record<string, string>> = {
  'POST /sandboxes': 'sandbox.create',
  'POST /v2/sandboxes': 'sandbox.create',
  'DELETE /sandboxes/:sandboxID': 'sandbox.kill',
  'POST /sandboxes/:sandboxID/pause': 'sandbox.pause',
  'POST /sandboxes/:sandboxID/resume': 'sandbox.resume',
  'POST /sandboxes/:sandboxID/connect': 'sandbox.connect',
  'POST /v2/sandboxes/:sandboxID/connect': 'sandbox.connect',
  'POST /sandboxes/:sandboxID/fork': 'sandbox.fork',
  'POST /sandboxes/:sandboxID/snapshots': 'sandbox.snapshot',
  'POST /sandboxes/:sandboxID/timeout': 'sandbox.timeout',
  'POST /sandboxes/:sandboxID/refreshes': 'sandbox.refresh',
  'PUT /sandboxes/:sandboxID/network': 'sandbox.network',
  'DELETE /templates/:templateID': 'template.delete',
  'POST /api-keys': 'key.create',
  'PATCH /api-keys/:apiKeyID': 'key.rename',
  'DELETE /api-keys/:apiKeyID': 'key.revoke',
  'POST /admin/teams': 'team.create',
  'PATCH /admin/teams/:teamID': 'team.update',
  'DELETE /admin/teams/:teamID': 'team.delete',
  'POST /admin/teams/:teamID/api-keys': 'key.create',
  'PATCH /admin/teams/:teamID/api-keys/:apiKeyID': 'key.rename',
  'DELETE /admin/teams/:teamID/api-keys/:apiKeyID': 'key.revoke',
  'POST /nodes/:nodeID': 'node.status',
  'POST /admin/disk/verify': 'disk.verify',
  'POST /admin/teams/:teamID/sandboxes/kill': 'team.kill-sandboxes',
};
