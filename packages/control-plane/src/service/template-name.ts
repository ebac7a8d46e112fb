import { NestboxError } from '@nestbox/contract';

export const DEFAULT_TAG = 'default';

/** A template as clients name it: an id or a name, and a tag that is `default` when they leave it out. */
export interface TemplateName {
  readonly base: string;
  readonly tag: string;
}

/** Case and surrounding blanks do not matter. Anything can be read; what is no name is found nowhere. */
export function readTemplateName(text: string): TemplateName {
  const name = text.trim().toLowerCase();
  const colon = name.indexOf(':');
  return colon < 0 ? { base: name, tag: DEFAULT_TAG } : { base: name.slice(0, colon), tag: name.slice(colon + 1) };
}

/** With the tag, also the default one: the form in which snapshots carry their names. */
export function fullName({ base, tag }: TemplateName): string {
  return `${base}:${tag}`;
}

/** The form for people: a default tag goes without saying. */
export function shortName(name: string): string {
  const { base, tag } = readTemplateName(name);
  return tag === DEFAULT_TAG ? base : fullName({ base, tag });
}

/** Source of the two forms and of what a tag must not be: the wire (template names). */
const BASE = /^[a-z0-9-_]+$/;
const TAG = /^[a-z0-9-_.]+$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const MAX_LENGTH = 128;

/** Reads the name that a snapshot is to have. Throws `invalid_request`. */
export function parseSnapshotName(text: string): TemplateName {
  const name = readTemplateName(text);
  if (BASE.test(name.base) && TAG.test(name.tag) && !UUID.test(name.tag) && fullName(name).length <= MAX_LENGTH)
    return name;
  throw new NestboxError(
    'invalid_request',
    `The field "name" must have the form name or name:tag, of letters, digits, "-" and "_" (and "." in the tag), ${MAX_LENGTH} characters at most; a tag must not be a UUID.`,
  );
}
