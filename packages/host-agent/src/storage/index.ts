export { freeBytes, mapDiskFull, requireFreeSpace } from './disk-space.ts';
export { type CurrentImages, currentImages, type TemplateFile, templateFile } from './images-file.ts';
export { type HostLayout, hostLayout } from './layout.ts';
export { machineFiles } from './machine-folder.ts';
export { type DamagedRecord, type RecordList, SandboxRecordStore } from './sandbox-records.ts';
export { readManifestFile, type SnapshotManifest } from './snapshot-manifest.ts';
export { acquireStateLock, type StateLock } from './state-lock.ts';
export { type DamagedTemplate, type Template, type TemplateList, TemplateStore } from './template-store.ts';
