"""Whose a record might be, for the fence: by where it goes, where it comes from, and what its own metadata say."""

from functools import cache

from migrations.routing import Owner, Router
from vecfleet import names
from vecfleet.names import Tenant
from vecfleet.owners import owner_of
from vecfleet.records import Record
from vecfleet.tenancy.fences import subject_of
from workers.placing import Placed


class Fence:
    """The subjects of the records of one batch: what an erasure may be of."""

    def __init__(self, router: Router, source: str) -> None:
        self._router = router
        self._source = names.parse(source)
        self._seen: dict[str, frozenset[str]] = {}

    def subjects(self, record: Record, placed: Placed | None) -> frozenset[str]:
        """Every creator and twin that this record belongs to by any rule."""
        tenants = {self._source, names.parse(placed.target) if placed is not None else None}
        told = owner_of(record, self._router.ownership, self._router.lookup_key)
        for owner in (placed.owner if placed is not None else None, told[0] if told is not None else None):
            tenants.add(_tenant(owner) if owner is not None else None)
        found = frozenset(subject for tenant in tenants if tenant is not None for subject in _subjects(tenant))
        self._seen[record.id] = found
        return found

    def seen(self, source_id: str) -> frozenset[str]:
        return self._seen.get(source_id, frozenset())


def subjects_of(namespace: str) -> frozenset[str]:
    """The creator and the twin that a namespace is named after; none where it is not named so."""
    tenant = names.parse(namespace)
    return frozenset(_subjects(tenant)) if tenant is not None else frozenset()


def _tenant(owner: Owner) -> Tenant:
    return Tenant(owner.creator, owner.twin)


@cache
def _subjects(tenant: Tenant) -> tuple[str, ...]:
    creator = subject_of(Tenant(tenant.creator))
    return (creator,) if tenant.twin is None else (creator, subject_of(tenant))
