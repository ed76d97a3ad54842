"""The versions of the API that clients ask for by a header, and the operations that each of them has."""

from collections.abc import Mapping

from emulator.errors import Refusal
from emulator.records import DEFAULT_NAMESPACE

STABLE = ("2024-07", "2024-10", "2025-01", "2025-04", "2025-10", "2026-04", "2026-07")
OLDEST, NEWEST = STABLE[0], STABLE[-1]
UNSTABLE = "unstable"  # served as the newest
HEADER = "x-pinecone-api-version"

# The version that brought an operation; all others are in every version.
_SINCE: Mapping[str, str] = {
    **dict.fromkeys(("start_import", "list_imports", "describe_import", "cancel_import"), "2024-10"),
    **dict.fromkeys(("create_index_for_model", "upsert_records", "search"), "2025-01"),
    **dict.fromkeys(("create_backup", "list_backups", "describe_backup", "delete_backup"), "2025-04"),
    **dict.fromkeys(("create_index_from_backup", "list_restore_jobs", "describe_restore_job"), "2025-04"),
    **dict.fromkeys(("list_namespaces", "describe_namespace", "delete_namespace"), "2025-04"),
    **dict.fromkeys(("create_namespace", "fetch_by_metadata"), "2025-10"),
    "embed": "2024-10",
    **dict.fromkeys(("list_models", "describe_model"), "2025-04"),
    "backup_schedules": "2026-04",
    **dict.fromkeys(("create_alias", "list_aliases", "describe_alias", "update_alias", "delete_alias"), "2026-07"),
    **dict.fromkeys(("convert_index", "list_conversions", "describe_conversion", "cancel_conversion"), "2026-07"),
}


class Versions:
    def __init__(self, absent: str = NEWEST) -> None:
        """`absent`: the version of a request without the header. The service takes the oldest that it supports."""
        if absent not in STABLE:
            raise Refusal(400, f"'{absent}' is no API version; take one of {', '.join(STABLE)}")
        self._absent = absent

    def read(self, headers: Mapping[str, str]) -> str:
        """Return the version that a request asks for."""
        asked = headers.get(HEADER)
        if asked is None:
            return self._absent
        if asked in STABLE:
            return asked
        if asked == UNSTABLE:
            return NEWEST
        raise Refusal(400, f"'{asked[:40]}' is no API version; take one of {', '.join(STABLE)}", plain=True)


def namespace_name(name: str, version: str) -> str:
    """Return a namespace's name as an answer spells it; before 2026-07 the default one is empty."""
    return "" if name == DEFAULT_NAMESPACE and version != NEWEST else name


def refuse_newer(operation: str, api: str, version: str) -> None:
    """Refuse an operation that came after the version that the request asks for."""
    since = NEWEST if api == "documents" else _SINCE.get(operation, OLDEST)
    if version < since:
        raise Refusal(
            400,
            f"Operation {operation} needs API version {since} or later; the request asks for {version}",
            word="API_VERSION_TOO_OLD",
            reason="API_VERSION_TOO_OLD",
        )
