import { type Kysely, sql } from 'kysely';

/** What the ids of keys of the configuration began with. */
const PREFIX = 'configured-';

/** Which keys come from a configuration stands in a column of its own: all ids are UUIDs, as the wire wants them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('api_keys')
    .addColumn('is_configured', 'integer', (column) => column.notNull().defaultTo(0))
    .execute();
  const begin = sql.lit(`${PREFIX}%`);
  const rest = sql.lit(PREFIX.length + 1);
  await sql`update api_keys set is_configured = 1, id = substr(id, ${rest}) where id like ${begin}`.execute(db);
  await sql`update audit_entries set key_id = substr(key_id, ${rest}) where key_id like ${begin}`.execute(db);
  const [before, after] = [sql.lit(`"${PREFIX}`), sql.lit('"')];
  await sql`update audit_entries set targets = replace(targets, ${before}, ${after}) where operation like 'key.%'`.execute(
    db,
  );
}
