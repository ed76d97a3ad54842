"""The texts of records: made of their metadata, or of the rows that a file or a table holds for their ids.

A file is the same as long as its plan is worked on: its digest is compared when it is opened. A row of a table may be
changed meanwhile by its application: its text is read again whenever its record is.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from migrations.embedding import Embedding, NoText, TextsRef
from migrations.files import MAX_FILE_BYTES, within
from migrations.postgres_rows import engine_of
from vecfleet.errors import BadInput, NeedsOperator, Unreachable
from vecfleet.records import Record
from vecfleet.settings import Settings

TABLE, REST = "postgres:", "supabase:"
_PARQUET, _LINES = ".parquet", ".jsonl"
# That any number of this type may have.
_DIGITS = {"smallint": 4, "integer": 9, "bigint": 18}

Row = Mapping[str, Any]


class TextRows(Protocol):
    """Rows with texts, found by the ids of their records. Safe between threads."""

    def find(self, ids: Collection[str]) -> Mapping[str, Row]:
        """Return the rows of these records, those that there are."""


def texts_of(embedding: Embedding, rows: TextRows | None, records: Sequence[Record]) -> list[str | NoText]:
    """Return the text of each record, or why it has none. `rows`: of a plan whose metadata do not hold the texts."""
    if rows is None:
        return [embedding.text_of(record.metadata) for record in records]
    found = rows.find({record.id for record in records})
    return [embedding.text_of(found.get(record.id)) for record in records]


def rows_of(settings: Settings, named: str | None, id_column: str) -> TextsRef | None:
    """Return what `--text-from` names: a file, or a table of Postgres or Supabase. Raises BadInput, NotFound."""
    if named is None:
        return None
    if named.startswith(TABLE):
        return TextsRef(table=named.removeprefix(TABLE), id=id_column)
    if named.startswith(REST):
        return TextsRef(table=named.removeprefix(REST), rest=True, id=id_column)
    if Path(named).suffix not in (_PARQUET, _LINES):
        raise BadInput(
            f"{named!r} is neither a file of texts nor a table",
            next_step="name a file that ends with .jsonl or .parquet, postgres:TABLE or supabase:TABLE",
        )
    return TextsRef(file=named, digest=_digest(within(settings.vecfleet_root, named)), id=id_column)


def open_rows(ref: TextsRef, columns: Collection[str], settings: Settings) -> TextRows:
    """Return the rows that hold the texts of a plan, with the columns that make them. Raises BadInput, NotFound."""
    if ref.file is None:
        return _Rest(ref, columns, settings) if ref.rest else _Table(ref, columns, settings)
    path = within(settings.vecfleet_root, ref.file)
    if _digest(path) != ref.digest:
        raise BadInput(
            f"the texts in {ref.file} are no longer those of the plan",
            next_step="put the file back as it was, on every machine of the fleet; or make the plan again",
        )
    return _File(ref, columns, path)


class _File:
    """A file, kept as Arrow keeps it: about as large in memory as on disk."""

    def __init__(self, ref: TextsRef, columns: Collection[str], path: Path) -> None:
        wanted = list(dict.fromkeys((ref.id, *columns)))
        table = _parquet(path, wanted) if path.suffix == _PARQUET else _lines(path, wanted)
        missing = [column for column in wanted if column not in table.column_names]
        if missing:
            raise BadInput(
                f"{path.name} has no column {', '.join(missing)}",
                next_step="--text-key or --text name the columns with the text, --text-id the one with the ids",
            )
        ids = table.column(ref.id).to_pylist()
        self._places = {record_id: place for place, record_id in enumerate(ids)}
        if len(self._places) != len(ids):
            raise BadInput(
                f"{path.name} has {len(ids) - len(self._places):,} ids more than once",
                next_step="leave one row for each id: a record has one text",
            )
        if not all(isinstance(record_id, str) for record_id in self._places):
            raise BadInput(
                f"{path.name} has ids that are no texts under {ref.id!r}",
                next_step="write them as the records are called, in quotes",
            )
        self._columns = {column: table.column(column) for column in columns}

    def find(self, ids: Collection[str]) -> Mapping[str, Row]:
        places = {record_id: place for record_id in ids if (place := self._places.get(record_id)) is not None}
        return {
            record_id: {name: column[place].as_py() for name, column in self._columns.items()}
            for record_id, place in places.items()
        }


class _Table:
    """A table of Postgres, asked for the rows of each batch by its own type of ids, so that an index serves it."""

    def __init__(self, ref: TextsRef, columns: Collection[str], settings: Settings) -> None:
        if settings.texts_database_url is None:
            raise BadInput(
                f"texts of {ref.name} need TEXTS_DATABASE_URL", next_step="set it where you plan and where workers run"
            )
        self._ref = ref
        schema, _, name = (ref.table or "").rpartition(".")
        names = dict.fromkeys((ref.id, *columns))
        self._table = sa.table(name, *map(sa.column, names), schema=schema or None)
        self._engine = engine_of(
            settings.texts_database_url,
            "TEXTS_DATABASE_URL",
            pool_size=settings.worker_threads,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",
        )

    def find(self, ids: Collection[str]) -> Mapping[str, Row]:
        known = self._table.c[self._ref.id]
        wanted = sa.literal(sorted(filter(self._may_be, ids)), sa.ARRAY(sa.Text))
        array = sa.cast(wanted, sa.ARRAY(_Named(self._type)))
        named = sa.cast(known, sa.Text).label("_id")
        answers = self._ask(sa.select(named, *self._table.c).where(known == sa.any_(array)))
        return _by_id(self._ref, ((row._id, dict(row._mapping)) for row in answers))

    @cached_property
    def _type(self) -> str:
        """The type of the ids. An empty subquery has it, too."""
        ids = sa.select(self._table.c[self._ref.id]).limit(0).scalar_subquery()
        (row,) = self._ask(sa.select(sa.cast(sa.func.pg_typeof(ids), sa.Text)))
        return str(row[0])

    def _may_be(self, record_id: str) -> bool:
        """Say whether a record's id may be one of this column's type: another one would refuse the whole question."""
        if self._type == "uuid":
            try:
                return str(UUID(record_id)) == record_id
            except ValueError:
                return False
        digits = _DIGITS.get(self._type)
        return digits is None or (record_id.isascii() and record_id.isdecimal() and len(record_id) <= digits)

    def _ask(self, query: Any) -> list[Any]:
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(query))
        except OperationalError as error:
            raise Unreachable(
                f"the database of {self._ref.name} does not answer", next_step="check TEXTS_DATABASE_URL"
            ) from error
        except DBAPIError as error:
            raise NeedsOperator(
                f"the database refuses to read {self._ref.name}: {type(error.orig).__name__}",
                next_step="check the names of the table and its columns, and that TEXTS_DATABASE_URL may read it",
            ) from error


class _Rest:
    """A table of a Supabase project, asked over HTTP where its database is not to be reached."""

    def __init__(self, ref: TextsRef, columns: Collection[str], settings: Settings) -> None:
        from migrations import supabase_rows  # its client takes half a second to load

        if settings.supabase_url is None or settings.supabase_service_role_key is None:
            raise BadInput(
                f"texts of {ref.name} need SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY",
                next_step="set both where you plan and where workers run",
            )
        schema, _, self._table = (ref.table or "").rpartition(".")
        self._ref, self._columns = ref, columns
        self._tables = supabase_rows.open_client(settings, schema or "public").postgrest
        self._find = supabase_rows.find

    def find(self, ids: Collection[str]) -> Mapping[str, Row]:
        try:
            return _by_id(self._ref, self._find(self._tables, self._table, self._ref.id, self._columns, ids))
        except BadInput as error:
            raise NeedsOperator(error.message, next_step=error.next_step) from error


def _by_id(ref: TextsRef, rows: Iterable[tuple[str, Row]]) -> Mapping[str, Row]:
    """Return the rows of a table by their ids. Raises NeedsOperator for an id with two.

    Which of the two would be read could change from one reading to the next.
    """
    found: dict[str, Row] = {}
    for record_id, row in rows:
        if record_id in found:
            raise NeedsOperator(
                f"{ref.name} has more than one row for some ids, and a record has one text",
                next_step=f"leave one row for each {ref.id}; or name a view that has one",
            )
        found[record_id] = row
    return found


class _Named(sa.types.UserDefinedType[Any]):
    """A type of Postgres by its own name, as the server told it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def _parquet(path: Path, columns: list[str]) -> Any:
    import pyarrow as pa  # a tenth of a second to load
    from pyarrow import parquet

    try:
        there = parquet.read_schema(path).names
        return parquet.read_table(path, columns=[column for column in columns if column in there])
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path.name} is not a Parquet file", next_step="write it as Parquet, or as .jsonl") from error


def _lines(path: Path, columns: list[str]) -> Any:
    import pyarrow as pa
    from pyarrow import json

    texts = pa.schema([(column, pa.string()) for column in columns])
    options = json.ParseOptions(explicit_schema=texts, unexpected_field_behavior="ignore")
    try:
        return json.read_json(path, parse_options=options)
    except pa.ArrowInvalid as error:
        raise BadInput(
            f"{path.name} is not a file of JSON lines with texts in {', '.join(columns)}",
            next_step='write each line so: {"id": "…", "text": "…"}',
        ) from error


def _digest(path: Path) -> str:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BadInput(
            f"{path.name} has {path.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read",
            next_step="write it as Parquet, which is smaller; or put the texts into a table",
        )
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
