"""One schema as an index: each namespace a table, each record a row. Each call is one short transaction."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any
from zlib import crc32

from psycopg import sql

from vecfleet.deadlines import left_of
from vecfleet.digests import record_digest
from vecfleet.errors import BadRequest, Changed, Conflict, Missing, NeedsOperator, TimedOut, TooLarge, WrongKind
from vecfleet.names import DEFAULT, canonical
from vecfleet.pgvector import tables, values, writing
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.errors import Duplicate
from vecfleet.pgvector.layouts import LAYOUTS, SPARSE_COLUMNS
from vecfleet.pgvector.rows import Rows
from vecfleet.pgvector.tables import CHUNK_ID, Connection, Table
from vecfleet.records import Record
from vecfleet.stores import rules
from vecfleet.stores.base import (
    Deleted,
    Fetched,
    IdPage,
    IndexInfo,
    Kind,
    Limits,
    Match,
    Matches,
    NamespaceInfo,
    Usage,
    Written,
)
from vecfleet.stores.pgvector.listing import WHOLE_TABLE, Listings

ONE_CALL = Usage(requests=1)  # a database costs the same for any request
MAX_TOP_K = 10_000
VALUES = "values"
"""In an `IndexInfo.schema`: the type of its vectors, `vector` or `halfvec`."""

# Up to this many, rows are counted; beyond, Postgres's own guess is as good a hint and costs nothing.
_COUNTED_ROWS = 500_000
_MOST = 2**63 - 1  # the most that a bigint holds
# Rows hidden by a policy would be dropped unseen: with this setting Postgres refuses instead.
_EVERY_ROW = "SET LOCAL row_security = off"
# A server that was restored, failed over or replaced by an older copy of itself has started since.
_SERVER = "SELECT pg_is_in_recovery(), extract(epoch FROM pg_postmaster_start_time())::text"
_VERSION = sql.SQL("xmin::text || ' ' || tableoid::text || ctid::text")
_OPERATORS: Mapping[str, str] = {"cosine": "<=>", "dotproduct": "<#>", "euclidean": "<->"}


class PgvectorIndex:
    """One open schema. Safe between threads, never across a fork."""

    # A thousand rows of 3,072 dimensions are 12 MB. A row holds any metadata; a megabyte of it is a mistake.
    limits = Limits(
        upsert_bytes=24_000_000,
        fetch_ids=1_000,
        list_ids=5_000,
        metadata_bytes=1_000_000,
        reads_lag=False,
        ascii_ids=False,
    )

    def __init__(self, info: IndexInfo, database: DatabaseConnection, schema: str, collection_key: str) -> None:
        self.info = info
        self._database = database
        self._schema = schema
        self._collection_key = collection_key
        self._listings = Listings(database)

    @property
    def _values(self) -> str:
        return str(self.info.schema.get(VALUES, values.VECTOR))

    @property
    def fetch_room(self) -> int:
        return self.limits.fetch_ids

    def namespaces(self) -> Iterator[NamespaceInfo]:
        with self._database.transaction(f"list the namespaces of {self.info.name!r}") as connection:
            infos = [
                self._described(connection, table)
                for table in tables.namespaces(connection, self._schema)
                if self._fits(table)
            ]
        yield from sorted(infos, key=lambda info: info.name)

    def namespace(self, name: str) -> NamespaceInfo | None:
        with self._database.transaction(f"describe the namespace {name!r}") as connection:
            table = self._find(connection, name)
            return self._described(connection, table) if table is not None else None

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        rules.check_name("a namespace name", canonical(name))
        return canonical(name) != DEFAULT and self._create(name, schema)  # that one counts as always there

    def delete_namespace(self, name: str) -> Usage:
        """Drop its table; refused if a view or another table depends on it."""
        with self._database.transaction(f"delete the namespace {name!r}") as connection:
            table = self._find(connection, name)
            if table is not None:
                connection.execute(sql.SQL("DROP TABLE {}").format(table.identifier))
        return ONE_CALL

    def delete_namespace_if(self, name: str, version: int | None) -> Usage:
        """Drop its table, once nobody can write to it and every row is as it was: one transaction.

        Dies at any line: the transaction is rolled back. If its commit was unanswered, the next look tells.
        """
        with self._database.transaction(f"delete the namespace {name!r}") as connection:
            table = self._find(connection, name)
            if table is not None:
                connection.execute(WHOLE_TABLE)
                connection.execute(_EVERY_ROW)
                connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table.identifier))
                if self._version(connection, table) != version:
                    raise Changed(
                        f"{name} was written to since it was proven; nothing was deleted",
                        next_step="a retry reads it anew",
                    )
                connection.execute(sql.SQL("DROP TABLE {}").format(table.identifier))
        return ONE_CALL

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        limit = self.limits.list_ids if limit is None else limit
        if not 1 <= limit <= self.limits.list_ids:
            raise BadRequest(f"a page holds 1 to {self.limits.list_ids} ids, not {limit}")
        doing = f"list the ids of {namespace!r}"
        with self._database.transaction(doing) as connection:
            table = self._find(connection, namespace)
            if table is not None:
                order = self._listings.order(connection, table)
                if token is None and not prefix:
                    self._listings.require_ids(connection, table)
        if table is None:
            self._listings.check(token)
            return IdPage([], None, ONE_CALL)
        ids, following = self._listings.page(table, token, limit, prefix or "", doing, order=order)
        return IdPage(ids, following, ONE_CALL)

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        if not ids:
            return Fetched({})
        records: dict[str, Record] = {}
        requests = 0
        for start in range(0, len(ids), self.limits.fetch_ids):
            requests += 1
            records |= self._fetch(namespace, list(ids[start : start + self.limits.fetch_ids]))
        return Fetched(records, Usage(requests))

    def _fetch(self, namespace: str, ids: list[str]) -> dict[str, Record]:
        with self._database.transaction(f"fetch {len(ids):,} records of {namespace!r}") as connection:
            table = self._find(connection, namespace)
            if table is None:
                return {}
            rows = Rows.of(table, self._collection_key)
            return {record.id: record for _, record in writing.read(connection, table, rows, ids)}

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        """Replace rows with these ids whole, in one transaction with the new ones."""
        if not records:
            return Written(0)
        self._check(records)
        rules.check_name("a namespace name", canonical(namespace))
        normal = list(map(rules.normalise, records))
        if not self._replace(namespace, normal):
            self._create(namespace, None)
            if not self._replace(namespace, normal):
                raise Missing
        return Written(len(records), usage=ONE_CALL)

    def _replace(self, namespace: str, records: Sequence[Record]) -> bool:
        """Say whether there is such a table. Raises TimedOut, and writes nothing, once the caller's time is over."""
        doing = f"upsert into {namespace!r}"
        with self._database.transaction(doing) as connection:
            table = self._find(connection, namespace)
            if table is None:
                return False
            writing.replace(connection, table, Rows.of(table, self._collection_key), records)
            if left_of(inf) <= 0:  # this process was held up, and others may have written the same rows since
                raise TimedOut(f"did not {doing}: the time of the call was over before its commit")
        return True

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        if not ids:
            return Usage()
        if len(ids) > self.limits.delete_ids:
            raise TooLarge(f"a delete takes {self.limits.delete_ids:,} ids, not {len(ids):,}")
        with self._database.transaction(f"delete {len(ids):,} records from {namespace!r}") as connection:
            table = self._find(connection, namespace)
            if table is not None:
                writing.delete(connection, table, ids)
        return ONE_CALL

    def delete_if(self, namespace: str, digests: Mapping[str, int]) -> Deleted:
        """Lock the rows, compare what they hold then, and delete these rows and no others: one transaction.

        Dies at any line: the transaction is rolled back. If its commit was unanswered, repeating it deletes the rest.
        """
        if not digests:
            return Deleted()
        if len(digests) > self.limits.delete_ids:
            raise TooLarge(f"a delete takes {self.limits.delete_ids:,} ids, not {len(digests):,}")
        with self._database.transaction(f"delete {len(digests):,} records from {namespace!r}") as connection:
            table = self._find(connection, namespace)
            if table is None:
                return Deleted(usage=ONE_CALL)
            rows = Rows.of(table, self._collection_key)
            held = writing.read(connection, table, rows, list(digests), lock=True)
            proven = [(row, record.id) for row, record in held if record_digest(record) == digests[record.id]]
            writing.delete_rows(connection, table, proven)
        same = {row for row, _ in proven}
        return Deleted(sorted({record.id for row, record in held if row not in same}), ONE_CALL)

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        """Query by the vectors alone. Raises WrongKind if sparse values would have to count."""
        if not 1 <= top_k <= MAX_TOP_K:
            raise BadRequest(f"a query answers with 1 to {MAX_TOP_K:,} matches, not {top_k:,}")
        if self.info.kind is not Kind.DENSE:
            raise WrongKind(
                f"{self.info.name!r} holds sparse values, by which Postgres does not search",
                next_step="verify its content: that reads every record",
            )
        metric = self.info.metric or "cosine"
        with self._database.transaction(f"query {namespace!r}") as connection:
            table = self._find(connection, namespace)
            if table is None or table.vector is None:
                return Matches([], ONE_CALL)
            distance = sql.SQL("{} {} %(like)s::{}").format(
                sql.Identifier(table.vector.name), sql.SQL(_OPERATORS[metric]), sql.SQL(table.vector.type)
            )
            statement = sql.SQL("SELECT {id}, {distance} AS far FROM {table} ORDER BY far LIMIT %(top_k)s").format(
                id=sql.Identifier(CHUNK_ID), distance=distance, table=table.identifier
            )
            rows = connection.execute(statement, {"like": values.as_text(like.values), "top_k": top_k}).fetchall()
        return Matches([Match(id, _score(metric, far)) for id, far in rows], ONE_CALL)

    def own_columns(self) -> dict[str, list[str]]:
        """Return by namespace the columns that a new table of ours would lack: there they are keys of the metadata."""
        known = {column.name for column in LAYOUTS["seed"].columns} | {spec.name for spec in SPARSE_COLUMNS}
        with self._database.transaction(f"look at the columns of {self.info.name!r}") as connection:
            extra_columns = {
                table.namespace or "": [column.name for column in table.columns if column.name not in known]
                for table in tables.namespaces(connection, self._schema)
            }
        return {namespace: columns for namespace, columns in extra_columns.items() if columns}

    def version(self, namespace: str) -> int | None:
        with self._database.transaction(f"look at the writes to {namespace!r}") as connection:
            table = self._find(connection, namespace)
            if table is None:
                return None
            connection.execute(WHOLE_TABLE)
            return self._version(connection, table)

    def versions(self, namespace: str, ids: Sequence[str] | None) -> str:
        """Return a digest of which rows have these ids, who wrote each and where it lies, and of this server's run.

        A row that is written anew has another writer (`xmin`) or another place (`ctid`). Nothing here compares the
        order of transactions: it does not matter which ends first, and a rewritten table only looks changed. A new
        column with a default changes every record and writes no row, so the columns count too.
        """
        which = "all" if ids is None else f"{len(ids):,}"
        with self._database.transaction(f"look at the versions of {which} records of {namespace!r}") as connection:
            server = connection.execute(_SERVER).fetchone()
            assert server is not None, "a selection without a table is a row"
            if server[0]:
                raise NeedsOperator(
                    f"the database of {self.info.name!r} is a standby: what it shows lags behind what is written, and "
                    "proves no source unchanged",
                    next_step="lead PGVECTOR_URL or PGVECTOR_OTHER_URL to the primary, then resume",
                )
            table = self._find(connection, namespace)
            if ids is None:
                connection.execute(WHOLE_TABLE)
            given = None if ids is None else list(ids)
            total = self._sum(connection, table, _VERSION, given) if table is not None else 0
            columns = table.columns if table is not None else ()
        return f"{server[1]} {crc32(repr(columns).encode()):08x} {total}"

    def request_bytes(self, record: Record) -> int:
        return rules.billed_bytes(record)

    def normalise(self, record: Record) -> Record:
        """Return the record as a row gives it back; in a `halfvec` the values become the nearest halves."""
        normal = rules.normalise(record)
        return Record(normal.id, values.as_stored(normal.values, self._values), normal.sparse, normal.metadata)

    @staticmethod
    def _version(connection: Connection, table: Table) -> int:
        """Return the sum of a digest of each row's id and of the transaction that wrote it.

        No two versions of a row share one. A sum of the transactions alone would miss two changes that offset each
        other.
        """
        return PgvectorIndex._sum(connection, table, sql.SQL("xmin::text"))

    @staticmethod
    def _sum(connection: Connection, table: Table, version: sql.Composable, ids: list[str] | None = None) -> int:
        """Return the sum of a digest of each row's id and version: of all rows, or of those with these ids."""
        id = sql.Identifier(CHUNK_ID)
        row = sql.SQL("hashtextextended(concat({}, ' ', {}) COLLATE \"C\", 0)").format(version, id)
        statement = sql.SQL("SELECT mod(coalesce(sum({row} & {most}), 0), {most}) FROM {table}").format(
            row=row, most=sql.Literal(_MOST), table=table.identifier
        )
        if ids is not None:
            statement += sql.SQL(" WHERE {} = ANY(%s)").format(id)
        given = None if ids is None else [[known for known in ids if "\0" not in known]]
        total = connection.execute(statement, given).fetchone()
        assert total is not None, "a sum over no rows is a row"
        return int(total[0])

    def _check(self, records: Sequence[Record]) -> None:
        if len(records) > self.limits.upsert_records:
            raise TooLarge(f"an upsert takes {self.limits.upsert_records:,} records, not {len(records):,}")
        size = sum(map(self.request_bytes, records))
        if size > self.limits.upsert_bytes:
            raise TooLarge(f"an upsert takes {self.limits.upsert_bytes:,} bytes, not {size:,}")
        for record in records:
            rules.check_record(record, self.info, self.limits)
        rules.check_numbers(records)

    def _create(self, namespace: str, fields: Mapping[str, Any] | None) -> bool:
        vector = f"{self._values}({self.info.dimension})" if self.info.kind is not Kind.SPARSE else None
        try:
            with self._database.transaction(f"create the namespace {namespace!r}") as connection:
                tables.create(
                    connection,
                    canonical(namespace),
                    schema=self._schema,
                    vector=vector,
                    sparse=self.info.kind in (Kind.SPARSE, Kind.HYBRID),
                    fields=fields,
                )
        except (Conflict, Duplicate):  # of the table, or of its type, when two are created at once
            return False
        return True

    def _find(self, connection: Connection, namespace: str) -> Table | None:
        """Return its table. Raises WrongKind if that has vectors of another type or dimension."""
        table = tables.find_namespace(connection, canonical(namespace), self._schema)
        if table is not None and not self._fits(table):
            vector = table.vector
            held = f"{vector.type}({vector.size})" if vector is not None else "no vectors"
            raise WrongKind(
                f"the namespace {namespace!r} holds {held}, where {self._values}({self.info.dimension}) is meant",
                next_step="name another namespace, or the schema with its dimension: SCHEMA:vector(N)",
            )
        return table

    def _fits(self, table: Table) -> bool:
        vector = table.vector
        if self.info.kind is Kind.SPARSE:
            return vector is None
        return vector is not None and (vector.type, vector.size) == (self._values, self.info.dimension)

    @staticmethod
    def _described(connection: Connection, table: Table) -> NamespaceInfo:
        count = table.rows if table.rows > _COUNTED_ROWS else tables.count(connection, table)
        assert table.namespace is not None, "only tables of namespaces are described"
        return NamespaceInfo(table.namespace, count, table.said.get("schema"))


def _score(metric: str, distance: float) -> float:
    """Return the score as Pinecone gives it: similarities grow, squared distances shrink."""
    if metric == "euclidean":
        return distance * distance
    return 1.0 - distance if metric == "cosine" else -distance
