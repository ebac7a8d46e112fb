/** An operation of the wire that this version answers with 501 `not_supported`. */
export interface UnsupportedOperation {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With path parameters as `:name`. */
  readonly path: string;
  /** Plural noun phrase for the message. */
  readonly feature: string;
}

/** Every such operation; docs/compatibility.md is checked against this table. */
export const UNSUPPORTED_OPERATIONS: readonly UnsupportedOperation[] = [
  { method: 'POST', path: '/templates', feature: 'Template builds' },
  { method: 'POST', path: '/v2/templates', feature: 'Template builds' },
  { method: 'POST', path: '/v3/templates', feature: 'Template builds' },
  { method: 'GET', path: '/templates/:templateID', feature: 'Template builds' },
  { method: 'POST', path: '/templates/:templateID', feature: 'Template builds' },
  { method: 'PATCH', path: '/templates/:templateID', feature: 'Template updates' },
  { method: 'PATCH', path: '/v2/templates/:templateID', feature: 'Template updates' },
  { method: 'GET', path: '/templates/:templateID/files/:hash', feature: 'Template builds' },
  { method: 'POST', path: '/templates/:templateID/builds/:buildID', feature: 'Template builds' },
  { method: 'POST', path: '/v2/templates/:templateID/builds/:buildID', feature: 'Template builds' },
  { method: 'GET', path: '/templates/:templateID/builds/:buildID/status', feature: 'Template builds' },
  { method: 'GET', path: '/templates/:templateID/builds/:buildID/logs', feature: 'Template builds' },
  { method: 'POST', path: '/templates/tags', feature: 'Template tags' },
  { method: 'DELETE', path: '/templates/tags', feature: 'Template tags' },
  { method: 'GET', path: '/templates/:templateID/tags', feature: 'Template tags' },
  { method: 'POST', path: '/admin/teams/:teamID/builds/cancel', feature: 'Administration requests' },
  { method: 'POST', path: '/access-tokens', feature: 'Access tokens' },
  { method: 'DELETE', path: '/access-tokens/:accessTokenID', feature: 'Access tokens' },
  { method: 'GET', path: '/volumes', feature: 'Volumes' },
  { method: 'POST', path: '/volumes', feature: 'Volumes' },
  { method: 'GET', path: '/volumes/:volumeID', feature: 'Volumes' },
  { method: 'DELETE', path: '/volumes/:volumeID', feature: 'Volumes' },
  { method: 'GET', path: '/secrets', feature: 'Secrets' },
  { method: 'POST', path: '/secrets', feature: 'Secrets' },
  { method: 'GET', path: '/secrets/:secretID', feature: 'Secrets' },
  { method: 'POST', path: '/secrets/:secretID', feature: 'Secrets' },
  { method: 'DELETE', path: '/secrets/:secretID', feature: 'Secrets' },
];
