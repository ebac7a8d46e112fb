import { z } from 'zod';

/** The part of JSON Schema that the descriptions of VMMs use. */
export interface Schema {
  readonly $ref?: string | undefined;
  readonly type?: string | undefined;
  readonly enum?: readonly unknown[] | undefined;
  readonly required?: readonly string[] | undefined;
  readonly properties?: Readonly<Record<string, Schema>> | undefined;
  readonly additionalProperties?: boolean | Schema | undefined;
  readonly items?: Schema | undefined;
  readonly minimum?: number | undefined;
  readonly maximum?: number | undefined;
  readonly minLength?: number | undefined;
}

export const schema: z.ZodType<Schema> = z.lazy(() =>
  z.object({
    $ref: z.string().optional(),
    type: z.string().optional(),
    enum: z.array(z.unknown()).optional(),
    required: z.array(z.string()).optional(),
    properties: z.record(z.string(), schema).optional(),
    additionalProperties: z.union([z.boolean(), schema]).optional(),
    items: schema.optional(),
    minimum: z.number().optional(),
    maximum: z.number().optional(),
    minLength: z.number().optional(),
  }),
);

/**
 * Why a value is not as described; undefined when it is. A field that the description does not name is an error unless it
 * allows others: a VMM that does not know a field refuses it, or worse, ignores it.
 */
export function checkValue(
  value: unknown,
  described: Schema,
  definitions: ReadonlyMap<string, Schema>,
  where: string,
): string | undefined {
  if (described.$ref !== undefined) {
    const name = described.$ref.split('/').at(-1) ?? '';
    const target = definitions.get(name);
    return target === undefined
      ? `${where}: there is no definition ${name}`
      : checkValue(value, target, definitions, where);
  }
  const wrongType = checkType(value, described.type, where);
  if (wrongType !== undefined) return wrongType;
  if (described.enum !== undefined && !described.enum.includes(value))
    return `${where}: ${JSON.stringify(value)} is none of ${described.enum.join(', ')}`;
  if (typeof value === 'number') {
    if (described.minimum !== undefined && value < described.minimum) return `${where}: less than ${described.minimum}`;
    if (described.maximum !== undefined && value > described.maximum) return `${where}: more than ${described.maximum}`;
  }
  if (typeof value === 'string' && value.length < (described.minLength ?? 0)) return `${where}: too short`;
  if (Array.isArray(value)) {
    const { items } = described;
    if (items === undefined) return undefined;
    return firstOf(value.map((item, index) => checkValue(item, items, definitions, `${where}[${index}]`)));
  }
  if (typeof value === 'object' && value !== null) return checkFields(value, described, definitions, where);
  return undefined;
}

function checkFields(
  value: object,
  described: Schema,
  definitions: ReadonlyMap<string, Schema>,
  where: string,
): string | undefined {
  const missing = described.required?.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return `${where}.${missing} is missing`;
  const { properties = {}, additionalProperties = described.properties === undefined } = described;
  return firstOf(
    Object.entries(value).map(([name, field]: [string, unknown]) => {
      const known = Object.hasOwn(properties, name) ? properties[name] : undefined;
      if (known !== undefined) return checkValue(field, known, definitions, `${where}.${name}`);
      if (additionalProperties === false) return `${where}.${name} is unknown`;
      if (additionalProperties === true) return undefined;
      return checkValue(field, additionalProperties, definitions, `${where}.${name}`);
    }),
  );
}

function checkType(value: unknown, type: string | undefined, where: string): string | undefined {
  const fits = () => {
    switch (type) {
      case 'object':
        return typeof value === 'object' && value !== null && !Array.isArray(value);
      case 'array':
        return Array.isArray(value);
      case 'integer':
        return Number.isSafeInteger(value);
      case 'number':
      case 'string':
      case 'boolean':
        return typeof value === type;
      default:
        return true;
    }
  };
  return fits() ? undefined : `${where}: ${JSON.stringify(value)} is no ${String(type)}`;
}

function firstOf(problems: readonly (string | undefined)[]): string | undefined {
  return problems.find((problem) => problem !== undefined);
}
