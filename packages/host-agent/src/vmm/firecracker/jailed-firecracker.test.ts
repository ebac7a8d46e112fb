import { describeStandInConformance } from '../testing/stand-in-conformance.ts';

describeStandInConformance('Firecracker, in the jail of its jailer,', 'jailed-firecracker', 'firecracker');
