import type { ListedSandbox, Sandbox, SandboxDetail } from '@nestbox/contract/http';
import type { ServiceContext } from '../service/service-context.ts';
import type { ListedRecord } from '../store/sandbox-lists.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { shownState } from '../store/sandbox-state.ts';

/** A required field without a meaning any more. It must be fit for the legacy id form `<sandboxID>-<clientID>`. */
const CLIENT_ID = 'nestbox';

type TokenSource = Pick<ServiceContext, 'tokens' | 'domain'>;
type DetailSource = TokenSource & Pick<ServiceContext, 'hosts'>;

export function viewSandbox({ tokens, domain }: TokenSource, record: SandboxRecord): Sandbox {
  return {
    templateID: record.templateId,
    sandboxID: record.id,
    ...(record.alias === undefined ? {} : { alias: record.alias }),
    clientID: CLIENT_ID,
    envdVersion: record.envdVersion,
    ...(record.secure ? { envdAccessToken: tokens.guestToken(record.id) } : {}),
    trafficAccessToken: record.allowPublicTraffic ? null : tokens.trafficToken(record.id),
    domain: domain ?? null,
  };
}

/** A `ListedSandbox` as JSON. Made without a check: it is of this form by its types, and checking takes longer than all else. */
export function listedSandboxText(record: ListedRecord): string {
  const text = JSON.stringify(viewWithoutMetadata(record));
  const { metadataJson } = record;
  return metadataJson === undefined ? text : `${text.slice(0, -1)},"metadata":${metadataJson}}`;
}

function viewWithoutMetadata(record: Omit<ListedRecord, 'metadataJson'>): ListedSandbox {
  return {
    templateID: record.templateId,
    ...(record.alias === undefined ? {} : { alias: record.alias }),
    sandboxID: record.id,
    clientID: CLIENT_ID,
    startedAt: new Date(record.startedAtMs).toISOString(),
    endAt: new Date(record.endAtMs).toISOString(),
    cpuCount: record.vcpuCount,
    memoryMB: record.memoryMib,
    diskSizeMB: record.diskMib,
    state: shownState(record.state) ?? 'running',
    envdVersion: record.envdVersion,
    volumeMounts: [],
  };
}

export function viewSandboxDetail(source: DetailSource, record: SandboxRecord): SandboxDetail {
  return {
    ...viewWithoutMetadata(record),
    ...(record.metadata === undefined ? {} : { metadata: { ...record.metadata } }),
    ...(record.secure ? { envdAccessToken: source.tokens.guestToken(record.id) } : {}),
    allowInternetAccess: record.allowInternetAccess ?? null,
    domain: source.domain ?? null,
    ...(record.network === undefined ? {} : { network: record.network }),
    ...source.hosts.find(record.hostId)?.troubles.of(record.id),
    lifecycle: { autoResume: record.autoResume, onTimeout: record.autoPause ? 'pause' : 'kill' },
  };
}
