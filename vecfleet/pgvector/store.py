"""Embeddings of one namespace, or of any: insert, search, count, delete."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from vecfleet.errors import BadInput, Missing, NotFound, WrongKind
from vecfleet.names import meant
from vecfleet.pgvector import indexes, naming, tables, writing
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.indexes import Method
from vecfleet.pgvector.records import EmbeddingRecord, VectorEmbedding, fitted, refuse_losses, vector_bytes
from vecfleet.pgvector.rows import METADATA, Rows
from vecfleet.pgvector.schema import NamespaceTableFactory
from vecfleet.pgvector.tables import CHUNK_ID, Connection, Table
from vecfleet.pgvector.values import as_text
from vecfleet.records import FLOAT32_BYTES

MAX_LIMIT = 10_000
# How an index was built changes rarely; a search need not ask each time.
_REMEMBERED_S = 60.0

_COLLECTIONS = """
    SELECT collection_name, count(*), array_agg(DISTINCT strategy ORDER BY strategy),
           array_agg(DISTINCT content_type ORDER BY content_type), avg(semantic_density)
    FROM {table} {which} GROUP BY collection_name ORDER BY collection_name"""


class VectorStore:
    """Embeddings in namespaces; every method also takes a namespace other than the store's. Safe between threads."""

    def __init__(self, db_connection: DatabaseConnection, namespace: str = "default") -> None:
        self.namespace = naming.check(namespace)
        self.db = db_connection
        self.table_factory = NamespaceTableFactory(db_connection.engine)
        self._tables: dict[str, _Known] = {}

    def insert_embedding(
        self,
        chunk_id: str,
        document_id: str,
        collection_name: str,
        text: str,
        embedding: Sequence[float],
        metadata: Mapping[str, Any],
        namespace: str | None = None,
    ) -> bool:
        """Insert one; another of the same chunk_id is replaced. `metadata` may name columns, such as strategy.

        Raises NotFound if the namespace does not exist, and BadInput naming the key of a value that would not be kept
        exactly.
        """
        entry = VectorEmbedding(chunk_id, document_id, collection_name, text, embedding)
        known = {key: value for key, value in metadata.items() if key in _FIELDS}
        for key, value in known.items():
            setattr(entry, key, value)
        entry.metadata = {key: value for key, value in metadata.items() if key not in known}
        return self.insert_embeddings([entry], namespace) == 1

    def insert_embeddings(self, embeddings: Sequence[VectorEmbedding], namespace: str | None = None) -> int:
        """Insert all in one transaction, or none. Replace those whose chunk_id exists already.

        Returns how many rows there are of them.
        """
        if not embeddings:
            return 0
        target = self._target(namespace)
        with self.db.transaction(f"insert {len(embeddings):,} embeddings into {target!r}") as connection:
            return _insert(connection, _found(connection, target), embeddings)

    def replace_document(
        self,
        collection_name: str,
        document_id: str,
        embeddings: Sequence[VectorEmbedding],
        namespace: str | None = None,
    ) -> int:
        """Insert these and delete all else that the collection holds of the document, in one transaction.

        Returns how many rows there are of it.
        """
        target = self._target(namespace)
        with self.db.transaction(f"replace the document {document_id!r} in {target!r}") as connection:
            table = _found(connection, target)
            _delete_from_document(
                connection, table, collection_name, document_id, [embedding.chunk_id for embedding in embeddings]
            )
            return _insert(connection, table, embeddings)

    def delete_from_document(
        self, collection_name: str, document_id: str, *, all_but: Collection[str], namespace: str | None = None
    ) -> int:
        """Delete what the collection holds of a document, except these chunks. Returns how many there were."""
        target = self._target(namespace)
        with self.db.transaction(f"clear the document {document_id!r} in {target!r}") as connection:
            return _delete_from_document(
                connection, _found(connection, target), collection_name, document_id, list(all_but)
            )

    def similarity_search(
        self,
        query_vector: Sequence[float],
        limit: int = 10,
        collection_name: str | None = None,
        namespace: str | None = None,
        similarity_threshold: float = 0.0,
        filters: Mapping[str, Any] | None = None,
    ) -> list[tuple[EmbeddingRecord, float]]:
        """Return the nearest by cosine similarity, best first, each with its similarity.

        `filters`: column → value or list of values; a key that is no column is looked for in the metadata. Records
        below `similarity_threshold` are left out. The records are detached, and come without their vectors.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise BadInput(f"a search gives 1 to {MAX_LIMIT:,} results, not {limit:,}", next_step="ask for 10")
        target = self._target(namespace)
        vector = vector_bytes(query_vector)
        conditions = dict(filters or {}) | ({"collection_name": collection_name} if collection_name is not None else {})
        try:
            matches = self._search(target, self._known(target), vector, limit, conditions)
        except (Missing, WrongKind):  # dropped or made anew since we looked
            self._tables.pop(target, None)
            matches = self._search(target, self._known(target), vector, limit, conditions)
        # Matches come by distance, so this cut leaves out exactly what a condition would have.
        return [(record, score) for record, score in matches if score >= similarity_threshold]

    def _search(
        self, namespace: str, known: "_Known", vector: bytes, limit: int, conditions: Mapping[str, Any]
    ) -> list[tuple[EmbeddingRecord, float]]:
        table, column = known.table, known.table.vector
        if column is None:
            raise BadInput(
                f"the namespace {namespace!r} holds no vectors to search",
                next_step="`vecfleet pg namespaces` lists those that do",
            )
        dimension = len(vector) // FLOAT32_BYTES
        if column.size is not None and dimension != column.size:
            raise BadInput(
                f"the query has {dimension:,} dimensions; the namespace {namespace!r} has {column.size:,}",
                next_step="embed the query with the model that made the namespace",
            )
        parts = [_condition(table, key, value) for key, value in conditions.items()]
        names = [other.name for other in table.columns if other.name != column.name]
        distance = sql.SQL("{} <=> %s::{}").format(sql.Identifier(column.name), sql.SQL(column.type))
        statement = sql.SQL("SELECT {}, {} AS distance FROM {} {} ORDER BY distance LIMIT %s").format(
            sql.SQL(", ").join(map(sql.Identifier, names)),
            distance,
            table.identifier,
            sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(condition for condition, _ in parts))
            if parts
            else sql.SQL(""),
        )
        given = [as_text(vector), *(value for _, value in parts), limit]
        with self.db.transaction(f"search {namespace!r}") as connection:
            settings = None if known.defaults_do(limit, filtered=bool(parts)) else known.settings(limit)
            if settings is not None:
                connection.execute(settings)
            rows = connection.execute(statement, given).fetchall()
            if settings is None and len(rows) < limit and (settings := known.settings(limit)) is not None:
                connection.execute(settings)  # deleted rows were among the candidates, or there are no more
                rows = connection.execute(statement, given).fetchall()
        rows.sort(key=lambda row: row[-1])  # a scan that goes on gives late finds behind early ones
        return [(EmbeddingRecord.of(zip(names, row, strict=False)), 1.0 - row[-1]) for row in rows]

    def list_collections(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return for each: `collection_name`, `total_embeddings`, `strategies`, `content_types`, mean density."""
        return self._collections(self._target(namespace), None)

    def get_collection_stats(self, collection_name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return the same of one collection; `total_embeddings` is 0 if there is none of that name."""
        stats = self._collections(self._target(namespace), collection_name)
        return stats[0] if stats else _stats(collection_name, 0, [], [], None)

    def delete_collection(self, collection_name: str, namespace: str | None = None) -> int:
        """Delete every embedding of a collection. Returns how many there were."""
        target = self._target(namespace)
        with self.db.transaction(f"empty the collection {collection_name!r} of {target!r}") as connection:
            statement = sql.SQL("DELETE FROM {} WHERE collection_name = %s").format(
                _found(connection, target).identifier
            )
            return connection.execute(statement, [collection_name]).rowcount

    def dimension(self, namespace: str | None = None) -> int:
        """Return how many dimensions the vectors of a namespace have."""
        target = self._target(namespace)
        with self.db.transaction(f"describe the namespace {target!r}") as connection:
            vector = _found(connection, target).vector
        if vector is None or vector.size is None:
            raise BadInput(
                f"the namespace {target!r} does not say how many dimensions its vectors have",
                next_step=f"`vecfleet pg create {target} --dimension N` makes one that does, under another name",
            )
        return vector.size

    def _collections(self, namespace: str, only: str | None) -> list[dict[str, Any]]:
        with self.db.transaction(f"list the collections of {namespace!r}") as connection:
            statement = sql.SQL(_COLLECTIONS).format(
                table=_found(connection, namespace).identifier,
                which=sql.SQL("WHERE collection_name = {}").format(sql.Literal(only))
                if only is not None
                else sql.SQL(""),
            )
            return [_stats(*row) for row in connection.execute(statement).fetchall()]

    def _target(self, namespace: str | None) -> str:
        return naming.check(namespace) if namespace is not None else self.namespace

    def _known(self, namespace: str) -> "_Known":
        known = self._tables.get(namespace)
        if known is None or time.monotonic() - known.since > _REMEMBERED_S:
            with self.db.transaction(f"look at the namespace {namespace!r}") as connection:
                table = _found(connection, namespace)
                index = indexes.searched_index(connection, table)
                goes_on = indexes.scans_go_on(connection)
            method = index.method if index else None
            known = self._tables[namespace] = _Known(table, method, goes_on, time.monotonic())
        return known


@dataclass(frozen=True, slots=True)
class _Known:
    """State that a search need not ask for each time: the table, and the method of its vectors' index."""

    table: Table
    method: Method | None
    scans_go_on: bool
    since: float

    def defaults_do(self, limit: int, *, filtered: bool) -> bool:
        """Say whether an index most often gives enough as it is: settings cost a trip to the server."""
        return self.method == "hnsw" and not filtered and indexes.ef_for(limit) == indexes.DEFAULT_EF

    def settings(self, limit: int) -> str | None:
        """Return settings for one transaction: look at enough of the index, and go on if too few rows are left."""
        wanted = {}
        if self.method == "ivfflat":
            wanted["ivfflat.probes"] = str(indexes.probes_for(max(self.table.rows, 0)))
        elif self.method == "hnsw":
            wanted["hnsw.ef_search"] = str(indexes.ef_for(limit))
        if self.scans_go_on and self.method is not None:
            wanted[f"{self.method}.iterative_scan"] = "relaxed_order"
        return "; ".join(f"SET LOCAL {name} = {value}" for name, value in wanted.items()) or None


_FIELDS = frozenset({"strategy", "content_type", "path", "parent_chunk_id", "depth_level", "hierarchy_level"}) | {
    *("semantic_density", "confidence", "chunk_size", "token_count", "key_count", "contains_arrays", "is_leaf"),
    *("domain_tags", "original_keys"),
}


def _found(connection: Connection, namespace: str) -> Table:
    table = tables.find_namespace(connection, namespace)
    if table is None:
        there = (known.namespace or "" for known in tables.namespaces(connection))
        raise tables.objection(connection, namespace) or not_found(namespace, there)
    return table


def not_found(namespace: str, there: Iterable[str]) -> NotFound:
    """Return the refusal of a namespace that is not there, with the names nearest to it."""
    return NotFound(
        f"Namespace {namespace!r} does not exist{meant(namespace, there)}",
        next_step=f"`vecfleet pg namespaces` lists them; `vecfleet pg create {namespace}` makes it",
    )


def _insert(connection: Connection, table: Table, embeddings: Sequence[VectorEmbedding]) -> int:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    zone = "+00" if (column := table.column("created_at")) and column.type == "timestamptz" else ""
    times = {"created_at": stamp + zone, "updated_at": stamp + zone}
    rows = Rows.of(table)
    for embedding in embeddings:
        _check_dimension(table, len(embedding.embedding))
        refuse_losses(embedding, rows)
    if rows.body is None:
        return writing.replace(connection, table, rows, (fitted(each, rows, stamp + zone) for each in embeddings))
    return writing.replace(connection, table, rows, (embedding.as_record(**times) for embedding in embeddings))


def _delete_from_document(
    connection: Connection, table: Table, collection: str, document: str, all_but: list[str]
) -> int:
    parts = [_condition(table, "collection_name", collection), _condition(table, "document_id", document)]
    statement = sql.SQL("DELETE FROM {} WHERE {} AND {} <> ALL(%s)").format(
        table.identifier, sql.SQL(" AND ").join(condition for condition, _ in parts), sql.Identifier(CHUNK_ID)
    )
    return connection.execute(statement, [*(value for _, value in parts), all_but]).rowcount


def _check_dimension(table: Table, given: int) -> None:
    vector = table.vector
    if vector is not None and vector.size is not None and vector.size != given:
        raise BadInput(
            f"an embedding has {given:,} dimensions; the table {table.name!r} has {vector.size:,}",
            next_step="use the model that made the namespace, or a namespace of that dimension",
        )


def _condition(table: Table, key: str, value: Any) -> tuple[sql.Composable, Any]:
    """Return a condition and the value that it asks for."""
    several = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
    if key != METADATA and table.column(key) is not None:
        of = sql.SQL("{} = ANY(%s)" if several else "{} = %s")
        return of.format(sql.Identifier(key)), list(value) if several else value
    if table.column(METADATA) is None:
        names = ", ".join(column.name for column in table.columns)
        raise BadInput(f"{table.name!r} has no column {key!r}", next_step=f"filter by one of: {names}")
    wanted = [Jsonb({key: item}) for item in (value if several else [value])]
    return sql.SQL("{} @> ANY(%s)").format(sql.Identifier(METADATA)), wanted


def _stats(
    name: str, total: int, strategies: list[str], content_types: list[str], density: float | None
) -> dict[str, Any]:
    return {
        "collection_name": name,
        "total_embeddings": total,
        "strategies": strategies,
        "content_types": content_types,
        "avg_semantic_density": float(density or 0.0),
    }
