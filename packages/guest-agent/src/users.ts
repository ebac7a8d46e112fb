import { readFileSync, statSync } from 'node:fs';

/** A user of the guest with everything that starting a process as them needs. */
export interface SystemUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, `gid` included, as initgroups(3) would set them. */
  readonly groups: readonly number[];
  readonly home: string;
  readonly shell: string;
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** Root exists even where no /etc/passwd does, so an empty root file system can run programs. */
const ROOT: PasswdEntry = { name: 'root', uid: 0, gid: 0, home: '/root', shell: '/bin/sh' };

const MAX_ID = 0xffff_fffe;

function parseId(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= MAX_ID ? id : undefined;
}

/** Parses passwd(5); lines that are no valid entry (comments, NIS markers, damage) are skipped, as glibc does. */
export function parsePasswd(text: string): PasswdEntry[] {
  const entries: PasswdEntry[] = [];
  for (const line of text.split('\n')) {
    const [name, , uidText, gidText, , home, shell] = line.split(':');
    const uid = parseId(uidText);
    const gid = parseId(gidText);
    if (!name || name.startsWith('#') || uid === undefined || gid === undefined) continue;
    entries.push({ name, uid, gid, home: home || '/', shell: shell || '/bin/sh' });
  }
  return entries;
}

/** Parses group(5) by the same rules as `parsePasswd`. */
export function parseGroup(text: string): GroupEntry[] {
  const entries: GroupEntry[] = [];
  for (const line of text.split('\n')) {
    const [name, , gidText, members] = line.split(':');
    const gid = parseId(gidText);
    if (!name || name.startsWith('#') || gid === undefined) continue;
    entries.push({ name, gid, members: (members ?? '').split(',').filter((member) => member !== '') });
  }
  return entries;
}

/** A parsed file that is read again once its identity, size or time of change differ. A missing file is empty. */
class ParsedFile<Entry> {
  readonly #path: string;
  readonly #parse: (text: string) => Entry[];
  #stamp: string | undefined;
  #entries: Entry[] = [];

  constructor(path: string, parse: (text: string) => Entry[]) {
    this.#path = path;
    this.#parse = parse;
  }

  /** Returns the entries and whether they were read anew by this call. */
  read(): { entries: readonly Entry[]; changed: boolean } {
    const stat = statSync(this.#path, { throwIfNoEntry: false });
    const stamp = stat === undefined ? '' : `${stat.ino}:${stat.size}:${stat.mtimeMs}:${stat.ctimeMs}`;
    if (stamp === this.#stamp) return { entries: this.#entries, changed: false };
    this.#entries = stat === undefined ? [] : this.#parse(readFileSync(this.#path, 'utf8'));
    this.#stamp = stamp;
    return { entries: this.#entries, changed: true };
  }
}

/**
 * The accounts of one root file system. Reads /etc/passwd and /etc/group itself: the agent's C library is not the
 * template's, so NSS modules of the template cannot be loaded.
 */
export class Accounts {
  readonly #passwd: ParsedFile<PasswdEntry>;
  readonly #group: ParsedFile<GroupEntry>;
  #users = new Map<string, SystemUser>();
  #userNames = new Map<number, string>();
  #groupNames = new Map<number, string>();

  constructor(etcDir = '/etc') {
    this.#passwd = new ParsedFile(`${etcDir}/passwd`, parsePasswd);
    this.#group = new ParsedFile(`${etcDir}/group`, parseGroup);
  }

  lookupUser(name: string): SystemUser | undefined {
    this.#refresh();
    return this.#users.get(name);
  }

  /** The name of `uid`, or its decimal digits where it has none. */
  userName(uid: number): string {
    this.#refresh();
    return this.#userNames.get(uid) ?? String(uid);
  }

  /** The name of `gid`, or its decimal digits where it has none. */
  groupName(gid: number): string {
    this.#refresh();
    return this.#groupNames.get(gid) ?? String(gid);
  }

  #refresh(): void {
    const passwd = this.#passwd.read();
    const group = this.#group.read();
    if (!passwd.changed && !group.changed) return;

    // The first entry of a name or an id wins, as in getpwnam(3) and getpwuid(3).
    this.#users = new Map();
    this.#userNames = new Map();
    this.#groupNames = new Map();
    for (const { gid, name } of group.entries) {
      if (!this.#groupNames.has(gid)) this.#groupNames.set(gid, name);
    }
    const known = passwd.entries.some(({ name }) => name === ROOT.name) ? [] : [ROOT];
    for (const entry of [...passwd.entries, ...known]) {
      if (this.#users.has(entry.name)) continue;
      const others = group.entries.filter(({ members }) => members.includes(entry.name)).map(({ gid }) => gid);
      this.#users.set(entry.name, { ...entry, groups: [...new Set([entry.gid, ...others])] });
      if (!this.#userNames.has(entry.uid)) this.#userNames.set(entry.uid, entry.name);
    }
    if (!this.#groupNames.has(0)) this.#groupNames.set(0, 'root');
  }
}

const accounts = new Accounts();

/** Looks `name` up in this machine's /etc/passwd. */
export function lookupUser(name: string): SystemUser | undefined {
  return accounts.lookupUser(name);
}

export function userName(uid: number): string {
  return accounts.userName(uid);
}

export function groupName(gid: number): string {
  return accounts.groupName(gid);
}
