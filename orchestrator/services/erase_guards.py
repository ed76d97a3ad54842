"""Checks before the fleet forgets a tenant: its erasure was begun, and nothing of the tenant is left.

Nothing is forgotten before all checks hold. The checks only read, but each refusal is written to the audit trail.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.ledger import audit
from orchestrator.ledger.database import Database
from orchestrator.ledger.ownership import Place
from vecfleet import names
from vecfleet.errors import BadInput, Refused
from vecfleet.names import Tenant
from vecfleet.patience import patiently
from vecfleet.stores.base import Index
from vecfleet.tenancy import finding
from vecfleet.tenancy.erasing import CONFIRM_S, RESIDUAL, deleted_at
from vecfleet.tenancy.fences import FENCED, Begun, Reported, subject_of
from vecfleet.tenancy.finding import TenantPlace

if TYPE_CHECKING:
    from vecfleet.stores.pinecone import Accounts

_LOOK_AGAIN_S = 0.5
_ELSEWHERE = "finish the erasure on a machine that sees every index: vecfleet forget"


@contextmanager
def refusing(database: Database, number: int, who: str) -> Iterator[None]:
    """Write a refusal to the audit trail; the entry names no tenant."""
    try:
        yield
    except (Refused, BadInput) as refusal:
        with database.begin() as connection:
            audit.note(connection, who, "erasure refused", None, erasure=number, why=refusal.message)
        raise


def require_own(begun: Begun, tenant: Tenant, found: Sequence[TenantPlace]) -> None:
    """Refuse places that belong to another tenant by their name or by the books. Raises Refused."""
    for place in found:
        named = names.parse(place.name)
        if named is not None:
            mixed = not place.whole and named == Tenant(tenant.creator)
            own = mixed or names.belongs_to(place.name, tenant.creator, tenant.twin)
        elif place.name in (names.DEFAULT, names.PUBLIC):
            own = not place.whole
        else:
            own = place.name not in begun.known(tenant.creator, place.index).others
        if not own:
            raise Refused(
                f"the erased places name a namespace of {place.index} that is not this tenant's: nothing was forgotten",
                code="foreign-namespace",
                next_step="erase the tenant again, by `vecfleet forget` or a client of this version",
            )


def tied(
    begun: Begun, tenant: Tenant, found: Sequence[TenantPlace], copied_ids: Mapping[Place, Collection[str]]
) -> list[TenantPlace]:
    """Return the places and ids that an application named and that the books give to the tenant too.

    Nothing else is forgotten on the application's word. Else the name of a namespace of nobody's would leave every
    text, and another tenant's id would leave that tenant's accounts.
    """
    places = []
    for place in found:
        known = begun.known(tenant.creator, place.index)
        own = names.belongs_to(place.name, tenant.creator, tenant.twin) or place.name in known.legacy
        if own or (place.whole and known.is_legacy_of(place.name, tenant)):
            places.append(place)
        elif not place.whole:
            ids = copied_ids.get((place.index, place.name), ())
            records = {record_id: digest for record_id, digest in place.records.items() if record_id in ids}
            places.append(replace(place, records=records))
    return places


def untied(found: Sequence[TenantPlace], places: Sequence[TenantPlace]) -> list[str]:
    """Return a certificate's sentence about the application's names and ids that the books do not give the tenant."""
    namespaces = sum(place.whole for place in found) - sum(place.whole for place in places)
    ids = sum(len(place.records) for place in found) - sum(len(place.records) for place in places)
    if not namespaces and not ids:
        return []
    return [
        f"in the job table and in our files: {namespaces:,} names of namespaces and {ids:,} ids of records that the "
        "application named, but that no name, no plan and no copy gives to this tenant; ids leave with their job "
        "(`vecfleet purge`)"
    ]


@dataclass(frozen=True, slots=True)
class Sighting:
    """The result of this process's own look: the time, the indexes, and the records read in shared namespaces."""

    at: datetime
    indexes: tuple[str, ...]
    read: int


def look(
    accounts: "Accounts", begun: Begun, tenant: Tenant, found: Sequence[TenantPlace], of_jobs: Collection[str]
) -> Sighting:
    """Look whether an index, in any account, still holds a record of the tenant. Raises Refused if one does."""
    at = datetime.now(UTC)
    named = {place.index for place in found}
    there = accounts.existing(named | set(of_jobs))
    if named - there:
        raise Refused(
            "the erased places name an index that this machine does not see", code="index-unseen", next_step=_ELSEWHERE
        )
    read, indexes = 0, tuple(sorted(there))
    for name in indexes:
        index = accounts.open(name)
        read += _look(index, begun, tenant, [place for place in found if place.index == name])
    return Sighting(at, indexes, read)


def _look(index: Index, begun: Begun, tenant: Tenant, gone: Sequence[TenantPlace]) -> int:
    until = time.monotonic() + CONFIRM_S
    while True:
        places = finding.find(index, tenant, begun.known(tenant.creator, index.info.name))
        listed = {namespace.name for namespace in patiently(lambda: list(index.namespaces()))}
        whole = [place for place in gone if place.whole and place.name in listed]
        again = whole or [place for place in gone if finding.still_there(index, place, query=False)]
        if not places.found and not again:
            return places.read
        if time.monotonic() >= until:
            count = len({place.name for place in (*places.found, *again)})
            raise Refused(
                f"{index.info.name} still holds records in {count} of the places: nothing was forgotten",
                code="records-left",
                next_step="erase the tenant again: records that are gone already are no error",
            )
        time.sleep(_LOOK_AGAIN_S)


def attested(
    tenant: Tenant,
    who: str,
    lasted: timedelta,
    seen: Sighting,
    found: Sequence[TenantPlace],
    places: Sequence[TenantPlace],
    reported: Reported,
) -> Mapping[str, Any]:
    """Return a certificate of what this process saw. Counts that it cannot see are the application's, and say so.

    `places` is the part of `found` that the books give to the tenant. The certificate names the other part. The books
    add when the erasure began and ended.
    """
    return {
        "certificate": 1,
        "subject": subject_of(tenant),
        "scope": "creator" if tenant.twin is None else "twin",
        "asked_by": who,
        "last_look": seen.at.isoformat(),
        "seconds": round(lasted.total_seconds(), 3),
        "namespaces": sum(place.whole for place in found),
        "records": sum(place.count for place in found),
        "shared_records_read": seen.read,
        "where": [deleted_at(place) for place in found],
        "aliases": reported.aliases,
        "exported": reported.exported,
        "looked_at": list(seen.indexes),
        "counted_by": "the application that deleted them",
        "confirmed_by": ["listing", "fetching", "another look of the fleet's own"],
        "fence": FENCED,
        "residual": [*RESIDUAL, *untied(found, places)],
    }
