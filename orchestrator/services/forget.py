"""Erase a tenant in every index and export that the fleet knows: what `vecfleet forget` and the HTTP API do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import anonymise
from orchestrator.services import fillings
from orchestrator.services.erase import JobTableBooks, exporter
from vecfleet.errors import BadInput, NotFound
from vecfleet.names import Tenant
from vecfleet.stores.base import Index
from vecfleet.tenancy import erasing
from vecfleet.tenancy.options import DEFAULT_INDEX


@dataclass(frozen=True, slots=True)
class Reach:
    """The places that an erasure looks into, and the exports that it leaves to the tenants whose they are."""

    indexes: Sequence[Index]
    exports: Sequence[Index]
    kept: Sequence[str]


def reach(parts: Fleet, named: Sequence[str] | None = None) -> Reach:
    """Return the named indexes, or the one of the settings and those of any job in any account; and all exports."""
    fillings.settle(parts.database, parts.accounts)
    handed_out = parts.folders.handed_out()
    exports = [parts.folders.open(info) for info in parts.folders.indexes() if info.name not in handed_out]
    return Reach(_indexes(parts, named), exports, sorted(handed_out))


def _indexes(parts: Fleet, named: Sequence[str] | None) -> list[Index]:
    if not named:
        with parts.database.begin() as connection:
            of_jobs = anonymise.indexes(connection)
        default = parts.settings.pinecone_index_name or DEFAULT_INDEX
        named = sorted(_existing(parts, of_jobs | {default}))
        if not named:
            raise NotFound(f"there is no index {default!r}", next_step="name it: --index NAME")
    return [parts.accounts.open(name) for name in named]


def _existing(parts: Fleet, names: set[str]) -> set[str]:
    try:
        return parts.accounts.existing(names)
    except BadInput as error:
        raise BadInput(
            f"jobs took records to an account that this machine does not know: {error.message}; nothing was erased",
            next_step=f"{error.next_step}; or, if that account is gone for good, name the other indexes: --index NAME",
        ) from error


def erase(
    parts: Fleet,
    tenant: Tenant,
    who: str,
    places: Reach,
    *,
    export: str | None = None,
    repoint: Mapping[str, str] | None = None,
    on_wait: Callable[[float, str], None] = lambda _seconds, _why: None,
) -> erasing.Erased:
    """Erase the tenant there, and on our own side; `export` is a folder for a copy that is made first.

    Dies at any line: the fence stands, and the next erasure of this tenant finds what is left. A refusal makes no
    folder: the same command may be typed again.
    """
    books = JobTableBooks(parts.database, parts.settings)
    if export is not None:
        books.require_leave(tenant, who)
    into = parts.folders.open(parts.folders.hand_out(export, places.indexes[0].info)) if export is not None else None
    return erasing.erase(
        [*places.indexes, *places.exports],
        tenant,
        books=books,
        who=who,
        export=exporter(into) if into is not None else None,
        repoint=repoint,
        confirm_s=max(erasing.CONFIRM_S, parts.settings.freshness_wait_seconds),
        lands_s=erasing.lands_s(parts.settings, places.indexes),
        on_wait=on_wait,
    )
