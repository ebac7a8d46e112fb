import { describeStandInConformance } from '../testing/stand-in-conformance.ts';

describeStandInConformance('Firecracker', 'firecracker', 'firecracker');
