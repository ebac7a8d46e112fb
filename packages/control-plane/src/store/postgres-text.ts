import {
  type DataTypeNode,
  type KyselyPlugin,
  OperationNodeTransformer,
  type PluginTransformQueryArgs,
  type PluginTransformResultArgs,
  type QueryResult,
  RawNode,
  type RootOperationNode,
  type UnknownRow,
} from 'kysely';

/**
 * Makes every text column that a migration adds sort by its bytes, as SQLite's do, whatever the database's own order is:
 * pages and lists come in the same order then, and a new version of the system's tables of sorting cannot break an index.
 */
export class BytewiseText implements KyselyPlugin {
  readonly #transformer = new TextColumns();

  transformQuery({ node, queryId }: PluginTransformQueryArgs): RootOperationNode {
    const isOfSchema = node.kind === 'CreateTableNode' || node.kind === 'AlterTableNode';
    return isOfSchema ? this.#transformer.transformNode(node, queryId) : node;
  }

  async transformResult({ result }: PluginTransformResultArgs): Promise<QueryResult<UnknownRow>> {
    return result;
  }
}

class TextColumns extends OperationNodeTransformer {
  protected override transformDataType(node: DataTypeNode): DataTypeNode {
    // A raw expression stands wherever a type may.
    return node.dataType === 'text' ? (RawNode.createWithSql('text collate "C"') as unknown as DataTypeNode) : node;
  }
}
