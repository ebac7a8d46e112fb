import { NestboxError } from '@nestbox/contract';
import { CLUSTER_ID, type Node, type NodeStatus } from '@nestbox/contract/http';
import type { HostLink } from '../hosts/host-link.ts';
import {
  listHostStatuses,
  putHostStatus,
  SETTABLE_HOST_STATUSES,
  type StoredHostStatus,
} from '../store/host-status-repository.ts';
import { listHostsLookedAfter } from '../store/lease-repository.ts';
import { viewNode } from './node-view.ts';
import type { ServiceContext } from './service-context.ts';

/** Every host of this control plane, as it is now; of one that cannot be asked what it told last. */
export async function listNodes(
  context: ServiceContext,
  clusterId: string | undefined,
  signal?: AbortSignal,
): Promise<Node[]> {
  if (!isOurs(clusterId)) return [];
  const statuses = await listHostStatuses(context.db);
  return await Promise.all([...context.hosts].map((link) => look(context, link, statuses.get(link.id), signal)));
}

/** Throws `not_found`, and `host_unavailable` for a host that only another control plane has. */
export async function getNode(
  context: ServiceContext,
  nodeId: string,
  clusterId: string | undefined,
  signal?: AbortSignal,
): Promise<Node> {
  const link = await requireNode(context, nodeId, clusterId);
  const statuses = await listHostStatuses(context.db);
  return await look(context, link, statuses.get(link.id), signal);
}

/**
 * Says whether a host takes new sandboxes, until it is said otherwise. Throws `conflict` for what nobody can say, since it is found
 * out, and what `getNode` throws.
 */
export async function setNodeStatus(
  context: ServiceContext,
  nodeId: string,
  { status, clusterID }: { readonly status: NodeStatus; readonly clusterID?: string | undefined },
): Promise<void> {
  const { id } = await requireNode(context, nodeId, clusterID);
  const settable = SETTABLE_HOST_STATUSES.find((each) => each === status);
  if (settable === undefined)
    throw new NestboxError(
      'conflict',
      `Whether a node is ${status} is found out, and cannot be set. What can be set is: ${SETTABLE_HOST_STATUSES.join(', ')}.`,
    );
  const isNew = await putHostStatus(context.db, id, { status: settable, changedAtMs: context.clock.now() });
  if (isNew) context.logger.info({ hostId: id, status }, 'What a host is for was changed');
}

async function requireNode(
  { db, hosts }: ServiceContext,
  nodeId: string,
  clusterId: string | undefined,
): Promise<HostLink> {
  const link = isOurs(clusterId) ? hosts.find(nodeId) : undefined;
  if (link !== undefined) return link;
  if (isOurs(clusterId) && (await listHostsLookedAfter(db)).includes(nodeId)) return hosts.get(nodeId);
  throw new NestboxError('not_found', 'There is no such node. GET /nodes lists those that there are.');
}

function isOurs(clusterId: string | undefined): boolean {
  return clusterId === undefined || clusterId === CLUSTER_ID;
}

async function look(
  { logger }: ServiceContext,
  link: HostLink,
  stored: StoredHostStatus | undefined,
  signal: AbortSignal | undefined,
): Promise<Node> {
  if (link.isReached)
    await link.describe(signal).catch((error: unknown) => {
      signal?.throwIfAborted();
      logger.warn({ err: error, hostId: link.id }, 'A host did not tell how it is');
    });
  return viewNode(link, stored);
}
