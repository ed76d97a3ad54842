"""Namespaces as tables: their SQLAlchemy models, and creating, describing and dropping them."""

import re
import threading
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import HALFVEC, VECTOR
from psycopg import sql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import registry

from vecfleet.errors import BadInput, Conflict
from vecfleet.pgvector import indexes, naming, tables, values
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.errors import Duplicate, translated
from vecfleet.pgvector.indexes import Method
from vecfleet.pgvector.layouts import EMBEDDING, LAYOUTS, LayoutName
from vecfleet.pgvector.records import EmbeddingRecord
from vecfleet.pgvector.tables import Connection, Table

DEFAULT_DIMENSION = 1_536
_NOT_THERE = "Namespace does not exist"

_TYPES: dict[str, Any] = {
    "SERIAL": sa.Integer(),
    "INTEGER": sa.Integer(),
    "TEXT": sa.Text(),
    "DOUBLE PRECISION": sa.Double(),
    "REAL": sa.REAL(),
    "BOOLEAN": sa.Boolean(),
    "TEXT[]": ARRAY(sa.Text()),
    "JSONB": JSONB(),
    "TIMESTAMP": sa.TIMESTAMP(),
    "TIMESTAMP WITH TIME ZONE": sa.TIMESTAMP(timezone=True),
}


class NamespaceTableFactory:
    """Models of namespaces' tables, made once each. Safe between threads.

    An existing table is described as it is, whatever its columns; a missing one as it would be created.
    """

    def __init__(self, engine: sa.Engine, *, dimension: int = DEFAULT_DIMENSION, layout: LayoutName = "seed") -> None:
        self.engine = engine
        self.dimension = dimension
        self.layout: LayoutName = layout
        self._models: dict[str, type[EmbeddingRecord]] = {}
        self._seen: set[str] = set()  # the namespaces whose model was made from an existing table
        self._lock = threading.Lock()

    def get_table_name(self, namespace: str) -> str:
        """Return the name of the table. Raises InvalidNamespace, a ValueError."""
        return naming.table_name(namespace)

    def validate_namespace_name(self, namespace: str) -> bool:
        """Say whether a namespace may have this name: nothing is folded, so `Prod` is not `prod`."""
        return naming.is_valid(namespace)

    def table_exists(self, namespace: str) -> bool:
        with translated(f"look for the namespace {namespace!r}"), self.engine.connect() as connection:
            return sa.inspect(connection).has_table(naming.table_name(namespace))

    def get_or_create_model(self, namespace: str) -> type[EmbeddingRecord]:
        """Return the model of a namespace's table; the table itself is not created. Raises InvalidNamespace."""
        name = naming.table_name(namespace)
        model = self._models.get(namespace)
        if model is not None and namespace in self._seen:
            return model
        there = self.table_exists(namespace)
        with self._lock:
            model = self._models.get(namespace)
            if model is None or (there and namespace not in self._seen):
                model = self._models[namespace] = self._make(namespace, name, there=there)
                self._seen |= {namespace} if there else set()
            return model

    def knows_table(self, namespace: str) -> bool:
        """Say whether the model was made from an existing table."""
        return namespace in self._seen

    def forget(self, namespace: str) -> None:
        """Forget the model: its table was dropped or made anew."""
        with self._lock:
            self._models.pop(namespace, None)
            self._seen.discard(namespace)

    def _make(self, namespace: str, name: str, *, there: bool) -> type[EmbeddingRecord]:
        if there:
            with translated(f"look at the namespace {namespace!r}"):
                table = sa.Table(name, sa.MetaData(), autoload_with=self.engine)
        else:
            table = sa.Table(name, sa.MetaData(), *self._columns())
        model = type(f"EmbeddingRecord_{namespace}", (EmbeddingRecord,), {})
        key = list(table.primary_key) or [table.c.chunk_id]
        registry().map_imperatively(model, table, primary_key=key)
        return model

    def _columns(self) -> list[sa.Column[Any]]:
        kind = values.type_for(self.dimension)
        vector = HALFVEC(self.dimension) if kind == values.HALFVEC else VECTOR(self.dimension)
        return [
            sa.Column(
                spec.name,
                vector if spec.name == EMBEDDING else _type_of(spec.type),
                primary_key=spec.name == "id",
                nullable="NOT NULL" not in spec.rest,
            )
            for spec in LAYOUTS[self.layout].columns
        ]


class EmbeddingSchema:
    """Creates, describes and drops namespaces.

    `method`: the kind of indexes built on vectors (None: as they are, and new ones ivfflat).
    """

    def __init__(
        self,
        database_url: str,
        *,
        dimension: int = DEFAULT_DIMENSION,
        layout: LayoutName = "seed",
        method: Method | None = None,
        database: DatabaseConnection | None = None,
    ) -> None:
        if not 1 <= dimension <= values.MAX_DIMENSION:
            raise BadInput(
                f"pgvector stores 1 to {values.MAX_DIMENSION:,} dimensions, not {dimension:,}",
                next_step="use a model that gives fewer, and name its dimension",
            )
        self._database = database or DatabaseConnection(database_url=database_url)
        self.table_factory = NamespaceTableFactory(self._database.engine, dimension=dimension, layout=layout)
        self._method = method

    @property
    def engine(self) -> sa.Engine:
        return self._database.engine

    def create_extension(self) -> bool:
        """Create the extension `vector` if the database lacks it. Raises ExtensionMissing, KeyRefused."""
        with self._database.transaction("create the extension vector") as connection:
            there = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is not None
            if not there:
                connection.execute("CREATE EXTENSION vector")
        return not there

    def create_namespace(self, namespace: str) -> bool:
        """Create the namespace; if it exists, build its missing indexes and rebuild that of its vectors.

        An empty namespace gets no vector index: call this again once there are rows. Raises InvalidNamespace, and
        Refused if something that is no namespace has its name.
        """
        naming.check(namespace)
        try:
            with self._database.transaction(f"create the namespace {namespace!r}") as connection:
                table = tables.find_namespace(connection, namespace)
                if table is None:
                    self._create(connection, namespace)
        except (Conflict, Duplicate):
            with self._database.transaction(f"look who created {namespace!r}") as connection:
                if tables.find_namespace(connection, namespace) is None:
                    raise
        if table is not None:
            with self._database.transaction(f"build the indexes of the namespace {namespace!r}") as connection:
                indexes.renew(connection, table, self._method)
        self.table_factory.forget(namespace)
        return True

    def _create(self, connection: Connection, namespace: str) -> None:
        schema, dimension = _current_schema(connection), self.table_factory.dimension
        if (objection := tables.objection(connection, namespace, schema)) is not None:
            raise objection
        vector = f"{values.type_for(dimension)}({dimension})"
        tables.create(connection, namespace, schema=schema, vector=vector, layout=self.table_factory.layout)

    def drop_namespace(self, namespace: str) -> bool:
        """Drop the namespace's table; False if there is none. Refused if something (a view) depends on it."""
        naming.check(namespace)
        with self._database.transaction(f"drop the namespace {namespace!r}") as connection:
            table = tables.find_namespace(connection, namespace)
            if table is not None:
                connection.execute(sql.SQL("DROP TABLE {}").format(table.identifier))
        self.table_factory.forget(namespace)
        return table is not None

    def list_namespaces(self) -> list[dict[str, Any]]:
        """Return for each: `namespace`, `table_name`, `embedding_count`, `vector_index_exists`. Without backups."""
        with self._database.transaction("list the namespaces") as connection:
            return [_listed(connection, table) for table in tables.namespaces(connection)]

    def get_namespace_stats(self, namespace: str) -> dict[str, Any]:
        """Return `exists`, and what is in the namespace; or `error` if it does not exist."""
        naming.check(namespace)
        with self._database.transaction(f"describe the namespace {namespace!r}") as connection:
            table = tables.find_namespace(connection, namespace)
            if table is None:
                return {"namespace": namespace, "exists": False, "error": _NOT_THERE}
            statement = (
                "SELECT count(DISTINCT collection_name), pg_size_pretty(pg_total_relation_size({}::regclass)) FROM {}"
            )
            name = sql.Literal(table.identifier.as_string(connection))
            answer = connection.execute(sql.SQL(statement).format(name, table.identifier)).fetchone()
            assert answer is not None, "an aggregate always answers"
            vector = table.vector
            return {
                **_listed(connection, table),
                "exists": True,
                "collection_count": answer[0],
                "table_size": answer[1],
                "dimension": vector.size if vector is not None else None,
                "vector_type": vector.type if vector is not None else None,
            }


def _listed(connection: Connection, table: Table) -> dict[str, Any]:
    return {
        "namespace": table.namespace,
        "table_name": table.name,
        "embedding_count": tables.count(connection, table),
        "vector_index_exists": indexes.searched_index(connection, table) is not None,
    }


def _current_schema(connection: Connection) -> str:
    row = connection.execute("SELECT current_schema()").fetchone()
    if row is None or row[0] is None:
        raise BadInput("the role has no schema to create tables in", next_step="CREATE SCHEMA, or set its search_path")
    return str(row[0])


def _type_of(spelled: str) -> Any:
    sized = re.fullmatch(r"VARCHAR\((\d+)\)", spelled)
    return sa.String(int(sized[1])) if sized else _TYPES[spelled]
