export { buildGuestAgentBundle, copyNativePackages, type GuestAgentBundle, type NativePackage } from './bundle.ts';
