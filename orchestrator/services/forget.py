"""Erase a tenant in every index and export that the fleet knows: what `vecfleet forget` and the HTTP API do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import anonymise, index_acts
from orchestrator.services import fillings
from orchestrator.services.erase import JobTableBooks, exporter
from vecfleet.errors import BadInput, NotFound, Refused, in_a_sentence
from vecfleet.names import Tenant
from vecfleet.stores.base import Index
from vecfleet.tenancy import erasing
from vecfleet.tenancy.erasing import UNREADABLE
from vecfleet.tenancy.options import DEFAULT_INDEX


@dataclass(frozen=True, slots=True)
class Reach:
    """The places that an erasure looks into, and the exports that it leaves to the tenants whose they are.

    `known`: the names of all indexes that were known; None where a person named those to look into. `given_up`: what
    the service may fill and nobody can know of; a certificate names them, looked into or not. `unread`: each export
    that cannot be looked into, with the reason; a certificate names them too.
    """

    indexes: Sequence[Index]
    exports: Sequence[Index]
    kept: Sequence[str]
    known: frozenset[str] | None
    given_up: Sequence[str] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


def reach(parts: Fleet, named: Sequence[str] | None = None) -> Reach:
    """Return the named indexes, or the one of the settings and those of any job in any account; and all exports.

    An export that is damaged, or that another program made, keeps no erasure from the others.
    """
    fillings.settle(parts.database, parts.accounts)
    exports, kept, unread = list[Index](), list[str](), dict[str, str]()
    for name in parts.folders.names():
        try:
            if parts.folders.is_handed_out(name):
                kept.append(name)
            else:
                exports.append(parts.folders.open(parts.folders.describe(name)))
        except UNREADABLE as error:
            unread[name] = error.message
    known = None if named else _known(parts)
    indexes = [parts.accounts.open(name) for name in (named or sorted(known or ()))]
    with parts.database.begin() as connection:
        given_up = [filling.index for filling in index_acts.given_up(connection)]
    return Reach(indexes, exports, kept, known, given_up, unread)


def _known(parts: Fleet) -> frozenset[str]:
    with parts.database.begin() as connection:
        of_jobs, given_up = anonymise.indexes(connection), index_acts.given_up(connection)
    default = parts.settings.pinecone_index_name or DEFAULT_INDEX
    known = _existing(parts, of_jobs | {default}) | fillings.reachable(parts.accounts, given_up)
    if not known:
        raise NotFound(f"there is no index {default!r}", next_step="name it: --index NAME")
    return frozenset(known)


def _require_all_known(parts: Fleet, places: Reach) -> None:
    """Raise Refused if a job or the service brought records to another index since the places were shown.

    Call this once the fence stands: from then on nobody brings the tenant's.
    """
    since = () if places.known is None else sorted(_known(parts) - places.known)
    if since:
        raise Refused(
            f"records were taken to {', '.join(since)} since this began; nothing was deleted yet",
            code="reach-outdated",
            next_step="erase the tenant again: that looks there too",
        )


def _existing(parts: Fleet, names: set[str]) -> set[str]:
    try:
        return parts.accounts.existing(names)
    except BadInput as error:
        step = in_a_sentence(error.next_step or "")
        raise BadInput(
            f"jobs took records to an account that this machine does not know: {error.message}; nothing was erased",
            next_step=f"{step}; or, if that account is gone for good, name the other indexes: --index NAME",
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
        places.indexes,
        tenant,
        exports=places.exports,
        unread=places.unread,
        books=books,
        who=who,
        export=exporter(into) if into is not None else None,
        repoint=repoint,
        confirm_s=max(erasing.CONFIRM_S, parts.settings.freshness_wait_seconds),
        lands_s=erasing.lands_s(parts.settings, places.indexes),
        on_begun=lambda: _require_all_known(parts, places),
        on_wait=on_wait,
    )
