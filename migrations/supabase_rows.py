"""Read all twins and sources of a Supabase project, page by page, because an answer holds at most 1,000 rows.

The only module that imports `supabase`.
"""

from typing import Any, cast

import httpx
from postgrest import CountMethod
from supabase import Client, ClientOptions, PostgrestAPIError, SupabaseException, create_client

from migrations.answers import SourceRow, TwinRow
from vecfleet.errors import BadInput, Unreachable
from vecfleet.settings import Settings

PAGE_ROWS = 1_000
ROUNDS = 3
TIMEOUT_SECONDS = 30

UNKNOWN = -1
_PAST_THE_END = "PGRST103"  # rows were deleted since the previous page
_REFUSED = {"401", "403", "42501", "PGRST300", "PGRST301", "PGRST302", "PGRST303"}
_ABSENT = {"404", "42P01", "42703", "PGRST204", "PGRST205"}


def read(settings: Settings) -> tuple[list[TwinRow], list[SourceRow]]:
    """Read every twin and source. Raises BadInput (settings, key, table names) or Unreachable."""
    client = _client(settings)
    at = settings
    twin = (at.ownership_twin_id_column, at.ownership_twin_creator_column, at.ownership_twin_name_column)
    source = (at.ownership_source_id_column, at.ownership_source_twin_column)
    twins = _read_table(client, at.ownership_twins_table, twin)
    sources = _read_table(client, at.ownership_sources_table, source) if at.ownership_sources_table else []
    return [TwinRow(*row) for row in twins], [SourceRow(*row) for row in sources]


def _client(settings: Settings) -> Client:
    url, key = settings.supabase_url, settings.supabase_service_role_key
    if url is None or key is None:
        raise BadInput(
            "the look-up in Supabase needs SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY",
            next_step="set both, or name an ownership file",
        )
    options = ClientOptions(
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
        raise Unreachable(
            f"Supabase does not answer: {type(error).__name__}", next_step="check SUPABASE_URL and the network"
        ) from error
    rows = cast(list[dict[str, Any]], answer.data)
    return [tuple(_text(row.get(column)) for column in columns) for row in rows], answer.count or 0


def _understood(error: PostgrestAPIError, table: str, columns: tuple[str, ...]) -> BadInput | Unreachable:
    code, reason = error.code or "", error.message or "no reason given"
    if code in _REFUSED or "api key" in reason.lower() or "jwt" in reason.lower():
        return BadInput(f"Supabase refuses the key: {reason}", next_step="check SUPABASE_SERVICE_ROLE_KEY")
    if code in _ABSENT:
        return BadInput(
            f"Supabase has no table {table!r} with the columns {', '.join(columns)}: {reason}",
            next_step="name the tables and columns that hold twins and sources",
        )
    return Unreachable(f"Supabase answers {code} to a look-up in {table!r}: {reason}", next_step="try again later")


def _text(value: Any) -> str:
    return "" if value is None else str(value)
