export { type CertificatePair, type CertificateSource, certificateFiles } from './certificate-source.ts';
export { type AuthorityFiles, authorityCertificates, authorityFiles, ensureAuthority } from './local-authority.ts';
