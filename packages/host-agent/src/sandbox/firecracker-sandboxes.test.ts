import { describeStandInSandboxes } from '../testing/stand-in-sandboxes.ts';

describeStandInSandboxes('firecracker');
