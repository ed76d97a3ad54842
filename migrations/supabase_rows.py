"""Read rows of a Supabase project: all twins and sources, page by page, because an answer holds at most 1,000 rows; or
those of some ids.

The only module that imports `supabase`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

import httpx
from postgrest import CountMethod, SyncPostgrestClient
from supabase import Client, ClientOptions, PostgrestAPIError, SupabaseException, create_client

from migrations.answers import SourceRow, TwinRow
from vecfleet.errors import BadInput, Unreachable
from vecfleet.portions import portions
from vecfleet.settings import Settings

Row = Mapping[str, Any]

PAGE_ROWS = 1_000
ROUNDS = 3
TIMEOUT_SECONDS = 30

# Of a question, in its address: servers take some 8,000 characters.
_IDS, _CHARACTERS = 100, 4_000

UNKNOWN = -1
_PAST_THE_END = "PGRST103"  # rows were deleted since the previous page
_REFUSED = {"401", "403", "42501", "PGRST300", "PGRST301", "PGRST302", "PGRST303"}
_ABSENT = {"404", "42P01", "42703", "PGRST204", "PGRST205"}
_OTHER_TYPE = {"22P02", "22003"}  # an id is no value of the column's type


def read(settings: Settings) -> tuple[list[TwinRow], list[SourceRow]]:
    """Read every twin and source. Raises BadInput (settings, key, table names) or Unreachable."""
    client = open_client(settings)
    at = settings
    twin = (at.ownership_twin_id_column, at.ownership_twin_creator_column, at.ownership_twin_name_column)
    source = (at.ownership_source_id_column, at.ownership_source_twin_column)
    twins = _read_table(client, at.ownership_twins_table, twin)
    sources = _read_table(client, at.ownership_sources_table, source) if at.ownership_sources_table else []
    return [TwinRow(*row) for row in twins], [SourceRow(*row) for row in sources]


def find(
    tables: SyncPostgrestClient, table: str, id_column: str, columns: Collection[str], ids: Collection[str]
) -> Iterator[tuple[str, Row]]:
    """Yield the rows with these ids, each with its id. Raises BadInput (key, table, columns) or Unreachable."""
    wanted = tuple(dict.fromkeys((id_column, *columns)))
    lengths = {record_id: len(quote(record_id)) for record_id in sorted(ids)}
    for some in portions(lengths, _IDS, _CHARACTERS):
        for row in _rows_of(tables, table, id_column, wanted, some):
            yield str(row[id_column]), row


def _rows_of(
    tables: SyncPostgrestClient, table: str, id_column: str, columns: tuple[str, ...], ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows with these ids. One that the column's type refuses has none, and is found by halves."""
    query = tables.from_(table).select(*columns, count=CountMethod.exact).in_(id_column, ids)
    try:
        answer = query.execute()
    except PostgrestAPIError as error:
        if error.code not in _OTHER_TYPE:
            raise _understood(error, table, columns) from error
        if len(ids) == 1:
            return []
        middle = len(ids) // 2
        halves = ids[:middle], ids[middle:]
        return [row for half in halves for row in _rows_of(tables, table, id_column, columns, half)]
    except httpx.HTTPError as error:
        raise _silent(error) from error
    rows = cast(list[dict[str, Any]], answer.data)
    if answer.count is not None and answer.count > len(rows):
        raise BadInput(
            f"Supabase answers with {len(rows):,} of {answer.count:,} rows of {table!r} for {len(ids):,} ids",
            next_step="leave one row for each id, and let an answer hold 100 rows or more (API settings, Max rows)",
        )
    return rows


def open_client(settings: Settings, schema: str = "public") -> Client:
    """Return a client of the project. Asks nothing. Raises BadInput."""
    url, key = settings.supabase_url, settings.supabase_service_role_key
    if url is None or key is None:
        raise BadInput(
            "the look-up in Supabase needs SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY",
            next_step="set both, or name an ownership file",
        )
    options = ClientOptions(
        schema=schema,
        httpx_client=httpx.Client(timeout=TIMEOUT_SECONDS),
        postgrest_client_retry=False,
        auto_refresh_token=False,
        persist_session=False,
    )
    try:
        return create_client(url, key.get_secret_value(), options)
    except SupabaseException as error:
        raise BadInput(
            f"the Supabase client refuses SUPABASE_URL: {error}", next_step="write it so: https://PROJECT.supabase.co"
        ) from error


def _read_table(client: Client, table: str, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    for _ in range(ROUNDS):
        rows = _read_once(client, table, columns)
        if rows is not None:
            return rows
    raise Unreachable(
        f"the Supabase table {table!r} changes faster than it can be read", next_step="plan again when it is quieter"
    )


def _read_once(client: Client, table: str, columns: tuple[str, ...]) -> list[tuple[str, ...]] | None:
    """Read all rows; None if rows came or went meanwhile, because pages would then overlap or leave rows out."""
    rows: list[tuple[str, ...]] = []
    total: int | None = None
    while total is None or len(rows) < total:
        page, count = _page(client, table, columns, start=len(rows))
        changed = total is not None and count != total
        if changed or (not page and len(rows) < count):
            return None
        total = count
        rows += page
    return rows


def _page(client: Client, table: str, columns: tuple[str, ...], start: int) -> tuple[list[tuple[str, ...]], int]:
    query = client.table(table).select(*columns, count=CountMethod.exact)
    for column in columns:  # by all columns, because only a total order makes the pages fit together
        query = query.order(column)
    try:
        answer = query.range(start, start + PAGE_ROWS - 1).execute()
    except PostgrestAPIError as error:
        if error.code == _PAST_THE_END:
            return [], UNKNOWN
        raise _understood(error, table, columns) from error
    except httpx.HTTPError as error:
        raise _silent(error) from error
    rows = cast(list[dict[str, Any]], answer.data)
    return [tuple(_text(row.get(column)) for column in columns) for row in rows], answer.count or 0


def _silent(error: httpx.HTTPError) -> Unreachable:
    return Unreachable(
        f"Supabase does not answer: {type(error).__name__}", next_step="check SUPABASE_URL and the network"
    )


def _understood(error: PostgrestAPIError, table: str, columns: tuple[str, ...]) -> BadInput | Unreachable:
    code, reason = error.code or "", error.message or "no reason given"
    if code in _REFUSED or "api key" in reason.lower() or "jwt" in reason.lower():
        return BadInput(f"Supabase refuses the key: {reason}", next_step="check SUPABASE_SERVICE_ROLE_KEY")
    if code in _ABSENT:
        return BadInput(
            f"Supabase has no table {table!r} with the columns {', '.join(columns)}: {reason}",
            next_step="name its tables and columns as they are there",
        )
    return Unreachable(f"Supabase answers {code} to a look-up in {table!r}: {reason}", next_step="try again later")


def _text(value: Any) -> str:
    return "" if value is None else str(value)
