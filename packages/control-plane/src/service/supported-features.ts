import { type EgressSettings, GUEST_AGENT_PORT, NestboxError, parseEgressRules } from '@nestbox/contract';
import type {
  NewSandbox,
  SandboxNetworkConfig,
  SandboxNetworkUpdate,
  sandboxPauseBody,
  sandboxSnapshotBody,
} from '@nestbox/contract/http';
import type { z } from 'zod';
import { HOST_MASK_RULE, isHostMask } from './host-mask.ts';

/**
 * Refuses what a create request asks for and this server cannot do, so that nothing is silently left out:
 * `not_supported` for features, `invalid_request` for combinations that make no sense. Values that ask for nothing
 * (false, null, empty) pass, since clients send them by default.
 */
export function checkSupported(request: NewSandbox): void {
  if (request.autoPauseMemory === false && request.autoPause !== true)
    throw new NestboxError(
      'invalid_request',
      'The field "autoPauseMemory" may only be false when "autoPause" is true.',
    );
  if (request.autoPauseMemory === false && request.autoResume?.enabled === true)
    throw new NestboxError(
      'invalid_request',
      'The fields "autoPauseMemory: false" and "autoResume" exclude each other.',
    );
  if (request.autoResume?.enabled === true && request.autoPause !== true)
    throw new NestboxError(
      'invalid_request',
      'The field "autoResume" may only be enabled when "autoPause" is true: without it the time-out ends the sandbox.',
    );
  refuse(!isEmpty(request.iam?.tokens), 'iam');
  refuse(!isEmpty(request.volumeMounts), 'volumeMounts');
  if (request.network !== undefined) checkNetwork(request.network, request.secure);
  parseEgressRules(egressOf(request));
}

/** Where a new sandbox may connect to. */
export function egressOf({ allow_internet_access, network }: NewSandbox): EgressSettings {
  return toEgress(allow_internet_access, network);
}

/** Refuses in an update what a create refuses. */
export function checkNetworkUpdate(update: SandboxNetworkUpdate): EgressSettings {
  refuse(!isEmpty(update.rules), 'rules');
  refuse(isGiven(update.egressProxy), 'egressProxy');
  refuse(isGiven(update.dnsServers), 'dnsServers');
  const egress = toEgress(update.allow_internet_access, update);
  parseEgressRules(egress);
  return egress;
}

/** Refuses what a pause or a snapshot asks for and this server cannot do. */
export function checkPause({ requireHealthyGuest }: z.infer<typeof sandboxPauseBody>): void {
  refuse(requireHealthyGuest, 'requireHealthyGuest: true');
}

export function checkSnapshot({ memory }: z.infer<typeof sandboxSnapshotBody>): void {
  refuse(!memory, 'memory: false');
}

function toEgress(
  allowInternetAccess: boolean | undefined,
  lists: Pick<SandboxNetworkConfig, 'allowOut' | 'denyOut'> | undefined,
): EgressSettings {
  return {
    allowInternetAccess: allowInternetAccess !== false,
    allowOut: lists?.allowOut ?? [],
    denyOut: lists?.denyOut ?? [],
  };
}

function checkNetwork(network: SandboxNetworkConfig, secure: boolean): void {
  refuse(!isEmpty(network.rules), 'network.rules');
  refuse(isGiven(network.egressProxy), 'network.egressProxy');
  refuse(isGiven(network.dnsServers), 'network.dnsServers');
  checkIngress(network);
  if (network.allowPublicTraffic === false && !secure)
    throw new NestboxError('invalid_request', 'The field "network.allowPublicTraffic: false" needs "secure: true".');
}

function checkIngress({ maskRequestHost, httpsPorts }: SandboxNetworkConfig): void {
  if (maskRequestHost && !isHostMask(maskRequestHost))
    throw new NestboxError('invalid_request', `The field "network.maskRequestHost" must be ${HOST_MASK_RULE}.`);
  for (const port of httpsPorts ?? [])
    if (port < 1 || port > 65_535 || port === GUEST_AGENT_PORT)
      throw new NestboxError(
        'invalid_request',
        `The field "network.httpsPorts" takes ports from 1 to 65535, and not ${GUEST_AGENT_PORT}, which is the guest agent's.`,
      );
}

function refuse(asked: boolean, field: string, hint?: string): void {
  if (!asked) return;
  throw new NestboxError(
    'not_supported',
    `The field "${field}" is not supported by this version of Nestbox${hint === undefined ? '' : `: ${hint}`}.`,
  );
}

function isGiven(value: object | null | undefined): boolean {
  return value !== undefined && value !== null;
}

function isEmpty(value: object | undefined): boolean {
  return value === undefined || Object.keys(value).length === 0;
}
