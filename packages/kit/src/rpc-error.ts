import { Code, ConnectError } from '@connectrpc/connect';
import { type ErrorCode, isErrorCode, NestboxError } from '@nestbox/contract';
import { ErrorDetailSchema } from '@nestbox/contract/host';

/** The only place where NestboxError and the host RPC's ConnectError are turned into each other. */
const RPC_CODES: Record<ErrorCode, Code> = {
  invalid_request: Code.InvalidArgument,
  unauthorized: Code.Unauthenticated,
  forbidden: Code.PermissionDenied,
  not_found: Code.NotFound,
  sandbox_not_found: Code.NotFound,
  template_not_found: Code.NotFound,
  method_not_allowed: Code.Unimplemented,
  conflict: Code.AlreadyExists,
  sandbox_stopping: Code.FailedPrecondition,
  sandbox_paused: Code.FailedPrecondition,
  sandbox_not_paused: Code.FailedPrecondition,
  snapshot_incompatible: Code.FailedPrecondition,
  state_dir_in_use: Code.FailedPrecondition,
  payload_too_large: Code.InvalidArgument,
  unsupported_media_type: Code.InvalidArgument,
  rate_limited: Code.ResourceExhausted,
  team_limit: Code.ResourceExhausted,
  team_not_found: Code.NotFound,
  internal: Code.Internal,
  snapshot_damaged: Code.DataLoss,
  not_supported: Code.Unimplemented,
  sandbox_unreachable: Code.Unavailable,
  port_not_open: Code.Unavailable,
  vm_died: Code.Aborted,
  host_unavailable: Code.Unavailable,
  database_unavailable: Code.Unavailable,
  server_not_running: Code.Unavailable,
  host_capacity: Code.ResourceExhausted,
  not_set_up: Code.FailedPrecondition,
  boot_timeout: Code.DeadlineExceeded,
  deadline_exceeded: Code.DeadlineExceeded,
  snapshot_limit: Code.ResourceExhausted,
  host_disk_full: Code.ResourceExhausted,
};

export function toRpcError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const known = NestboxError.from(error);
  return new ConnectError(
    known.message,
    RPC_CODES[known.code],
    undefined,
    [{ desc: ErrorDetailSchema, value: { code: known.code } }],
    known.cause,
  );
}

/** An error without our detail means that the host itself could not be asked: `host_unavailable`. */
export function fromRpcError(error: unknown): NestboxError {
  if (error instanceof NestboxError) return error;
  const rpc = ConnectError.from(error);
  const code = rpc.findDetails(ErrorDetailSchema)[0]?.code ?? '';
  if (isErrorCode(code)) return new NestboxError(code, rpc.rawMessage, { cause: error });
  if (rpc.code === Code.Canceled || rpc.code === Code.DeadlineExceeded)
    return new NestboxError('deadline_exceeded', `The host did not answer in time: ${rpc.rawMessage}`, {
      cause: error,
    });
  return new NestboxError('host_unavailable', `The host could not be asked: ${rpc.rawMessage}`, { cause: error });
}
