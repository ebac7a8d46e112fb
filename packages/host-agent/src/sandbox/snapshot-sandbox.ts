import { NestboxError } from '@nestbox/contract';
import type { Template } from '../storage/template-store.ts';
import { checkpoint, tidyInTurn } from './checkpoint.ts';
import type { HostState } from './host-state.ts';
import { installSnapshot } from './install-snapshot.ts';
import type { SnapshotSpec } from './sandbox.ts';
import type { Trace } from './trace.ts';

/** For what must not happen to one template at the same time. No sandbox has such an id. */
export function templateKey(templateId: string): string {
  return `template ${templateId}`;
}

/** Makes a template of a running sandbox, which goes on as soon as it has been copied. */
export async function snapshotSandbox(
  host: HostState,
  sandboxId: string,
  { templateId, names }: SnapshotSpec,
  trace: Trace,
): Promise<Template> {
  const { context, serial, room } = host;
  const { templates } = await context.templates.list();
  const replaced = templates.find((template) => template.templateId === templateId);
  if (replaced !== undefined && replaced.originSandboxId === undefined)
    throw new NestboxError('conflict', `${templateId} is a template that was built; a snapshot cannot replace it.`);
  using after = new DisposableStack();
  after.defer(() => tidyInTurn(host, sandboxId));
  using reserved = new DisposableStack();
  await using source = await serial.run(sandboxId, async () => {
    // In its turn: whoever waits for room has the sandbox, never the other way round.
    if (replaced === undefined) reserved.use(await room.reserve(templateId));
    return checkpoint(host, sandboxId, trace);
  });
  const { identity } = source.sandbox;
  const machine = await context.driver.snapshotMachine();
  const { vcpuCount, memoryMib, diskMib } = identity;
  const { kernelVersion, agentDiskHash, envdVersion } = source.vm.machine;
  const facts = { machine, kernelVersion, agentDiskHash, envdVersion, vcpuCount, memoryMib, diskMib };
  const file = {
    templateId,
    names: [...names],
    vcpuCount,
    memoryMib,
    diskMib,
    ...identity.guest,
    createdAtMs: Date.now(),
    originSandboxId: sandboxId,
  };
  const template = await trace.measure('store', () =>
    serial.run(templateKey(templateId), () => installSnapshot(context, file, source, facts)),
  );
  context.logger.info({ sandboxId, templateId, names }, 'a snapshot was taken');
  return template;
}
