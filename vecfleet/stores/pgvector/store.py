"""The schemas of one database as indexes: those that hold namespaces, and those that were made to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql

from vecfleet.errors import BadInput, Conflict, Missing, WrongKind
from vecfleet.names import meant
from vecfleet.pgvector import tables, values
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.rows import COLLECTION
from vecfleet.pgvector.tables import Connection, Table
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pgvector.index import VALUES, PgvectorIndex
from vecfleet.stores.rules import DOCUMENTS_REMEDY

DEFAULT_METRIC = "cosine"  # the seed's tables are searched by it
_NAME = re.compile(r"(?P<schema>[a-z_][a-z0-9_$-]{0,62})(:(?P<kind>vector|halfvec)\((?P<dimension>\d{1,5})\))?")

_SCHEMAS = """
    SELECT n.nspname, obj_description(n.oid, 'pg_namespace') FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY n.nspname"""


@dataclass(frozen=True, slots=True)
class _Schema:
    name: str
    said: Any  # our comment's; empty if the schema is not of our making
    tables: list[Table] = field(default_factory=list)

    def shapes(self) -> dict[str, list[Table]]:
        """Return its tables by the type of their vectors, such as vector(1536)."""
        by_shape: dict[str, list[Table]] = {}
        for table in self.tables:
            if table.vector is not None:
                by_shape.setdefault(f"{table.vector.type}({table.vector.size})", []).append(table)
        return by_shape


class PgvectorStore:
    """One database. An index is a schema; if its tables differ in dimension: `schema:vector(1536)`, one each."""

    def __init__(self, database: DatabaseConnection, name: str = "pgvector", collection_key: str = COLLECTION) -> None:
        self.name = name
        self._database = database
        self._collection_key = collection_key

    def indexes(self) -> list[IndexInfo]:
        with self._database.transaction("list the schemas") as connection:
            server = _server(connection, self._database)
            every = [schema for schema in _schemas(connection) if schema.said or schema.tables]
        infos = [info for schema in every for info in _infos(schema, server)]
        return sorted(infos, key=lambda info: info.name)

    def describe(self, index: str) -> IndexInfo:
        """Return the index. Raises Missing without such a schema or if it is empty, BadInput if the name is unclear."""
        asked = _NAME.fullmatch(index)
        with self._database.transaction(f"describe the schema {index!r}") as connection:
            server = _server(connection, self._database)
            every = {schema.name: schema for schema in _schemas(connection)}
        schema = every.get(asked["schema"]) if asked is not None else None
        infos = _infos(schema, server) if schema is not None and (schema.said or schema.tables) else []
        if len(infos) > 1 and schema is not None and index == schema.name:
            shapes = "; ".join(f"{shape}: {len(held)} tables" for shape, held in schema.shapes().items())
            raise BadInput(
                f"the schema {index!r} holds tables of several dimensions: {shapes}",
                next_step=f"name one, such as {infos[0].name!r}",
            )
        matching = [info for info in infos if info.name == index]
        if len(infos) == 1 and schema is not None and index in (schema.name, f"{schema.name}:{_shape(infos[0])}"):
            matching = infos
        if not matching:
            there = sorted(info.name for other in every.values() for info in _infos(other, server))
            raise Missing(
                f"there is no schema {index!r} with namespaces here; there are: {', '.join(there) or 'none'}"
                + meant(index, there),
                next_step="name one of them, or check the address of the database"
                if there
                else "check that PGVECTOR_URL names the database; if it does, `vecfleet pg setup` makes the namespace "
                "default in it, and `vecfleet pg create NAME` another",
            )
        return matching[0]

    def create_like(self, name: str, source: IndexInfo, cloud: str | None, region: str | None) -> IndexInfo:
        """Create a schema for namespaces of the source's dimension. An existing one that holds none yet is taken."""
        if source.kind is Kind.DOCUMENT:
            raise WrongKind(
                f"the index {source.name!r} holds documents, which cannot be read back unchanged",
                next_step=DOCUMENTS_REMEDY,
            )
        asked = _NAME.fullmatch(name)
        if asked is None or asked["kind"] is not None:
            raise BadInput(f"{name!r} cannot be a schema", next_step="choose a name of a-z, 0-9, _ and -")
        kind = Kind.DENSE if source.kind in (Kind.POD, Kind.INTEGRATED) else source.kind
        said = {
            "kind": kind.value,
            "dimension": source.dimension,
            "metric": source.metric,
            "cloud": cloud or source.cloud,
            "region": region or source.region,
            "tags": dict(source.tags),
            "schema": {key: value for key, value in source.schema.items() if key != VALUES},
        }
        with self._database.transaction(f"create the schema {name!r}") as connection:
            there = next((schema for schema in _schemas(connection) if schema.name == name), None)
            if there is not None and (there.said or there.tables):
                raise Conflict(f"the schema {name!r} holds namespaces already", next_step="name another schema")
            if there is None:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
            tables.comment_on(connection, "SCHEMA", sql.Identifier(name), said)
            _require_extension(connection)
        return self.describe(name)

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    def open(self, info: IndexInfo) -> PgvectorIndex:
        return PgvectorIndex(info, self._database, info.name.partition(":")[0], self._collection_key)


def _require_extension(connection: Connection) -> None:
    """Fail, as every use of it would, if the database lacks the extension."""
    connection.execute("SELECT NULL::vector")


def _server(connection: Connection, database: DatabaseConnection) -> str:
    """Return the identity of this database, by whatever address it was reached. Raises BadInput for a standby."""
    standby = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if standby is not None and standby[0]:
        raise BadInput(
            f"the database at {database.place} is a standby: it takes no writes, and shows what its primary held a "
            "while ago",
            next_step="give the address of the primary, in PGVECTOR_URL or PGVECTOR_OTHER_URL",
        )
    answer = connection.execute(
        "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'), current_database()"
    ).fetchone()
    if answer is None or not answer[0]:
        return database.place
    row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    return f"{row[0] if row else database.place}/{answer[1]}"


def _schemas(connection: Connection) -> Iterable[_Schema]:
    for name, comment in connection.execute(_SCHEMAS).fetchall():
        yield _Schema(name, tables.ours(comment), tables.namespaces(connection, name))


def _infos(schema: _Schema, server: str) -> list[IndexInfo]:
    """Return one index for each shape of its tables; for a schema of ours without any yet, the one it was made for."""
    shapes = schema.shapes()
    host = f"postgres:{server}/{schema.name}"
    if schema.said and len(shapes) <= 1:
        return [_info_of_ours(schema, next(iter(shapes.values()), []), host)]
    infos = [_info_of_tables(schema.name, shape, held, host) for shape, held in sorted(shapes.items())]
    return [replace(infos[0], name=schema.name, host=host)] if len(infos) == 1 else infos


def _info_of_ours(schema: _Schema, held: list[Table], host: str) -> IndexInfo:
    """Return the index as it was made, except where its tables differ: somebody may have made them otherwise."""
    said = schema.said
    vector = held[0].vector if held else None
    dimension = vector.size if vector is not None else said["dimension"]
    return IndexInfo(
        name=schema.name,
        kind=Kind(said["kind"]),
        dimension=dimension,
        metric=said["metric"],
        host=host,
        cloud=said["cloud"],
        region=said["region"],
        tags=said["tags"],
        schema={**said["schema"], VALUES: vector.type if vector is not None else values.type_for(dimension or 0)},
    )


def _info_of_tables(schema: str, shape: str, held: list[Table], host: str) -> IndexInfo:
    vector = held[0].vector
    assert vector is not None, "tables are grouped by their vectors"
    dense = {"type": "dense_vector", "dimension": vector.size, "metric": DEFAULT_METRIC}
    return IndexInfo(
        name=f"{schema}:{shape}",
        kind=Kind.HYBRID if any(table.has_sparse for table in held) else Kind.DENSE,
        dimension=vector.size,
        metric=DEFAULT_METRIC,
        host=f"{host}:{shape}",
        schema={"fields": {"_values": dense}, VALUES: vector.type},
    )


def _shape(info: IndexInfo) -> str:
    return f"{info.schema[VALUES]}({info.dimension})"
