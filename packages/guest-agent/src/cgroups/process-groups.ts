/** The cgroups that processes are put in. */
export type ProcessGroupName = 'user' | 'ptys';

export interface ProcessGroups {
  /** Moves one process; throws Node's error of the write when it cannot be moved. */
  place(pid: number, group: ProcessGroupName): void;
}
