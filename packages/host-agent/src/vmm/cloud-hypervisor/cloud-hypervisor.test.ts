import { describeStandInConformance } from '../testing/stand-in-conformance.ts';

describeStandInConformance('Cloud Hypervisor', 'cloud-hypervisor', 'cloud-hypervisor');
