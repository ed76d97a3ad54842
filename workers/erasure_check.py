"""The erasure fence: find the tenants that a record may belong to, and undo a write that came after an erasure.

A record may belong to a tenant by its target, by its source, and by its own metadata.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import sqlalchemy as sa

from migrations.routing import Owner, Router
from orchestrator.ledger import erasures
from vecfleet import names
from vecfleet.errors import Changed
from vecfleet.names import Tenant
from vecfleet.owners import owner_of
from vecfleet.patience import patiently
from vecfleet.records import Record
from vecfleet.stores.base import Conditional, Index
from vecfleet.tenancy.fences import subject_of
from workers.placing import Placed
from workers.work import Later, Work

# An erasure ends by itself, and asking the job table again costs little.
_ERASED_SOON_S = 1.0


class ErasureCheck:
    """The subjects of the records of one batch: each is a tenant that may be erased."""

    def __init__(self, router: Router, source: str) -> None:
        self._router = router
        self._source = names.parse(source)
        self._seen: dict[str, frozenset[str]] = {}
        # Most records of a batch have the same subjects.
        self._known: dict[tuple[str | None, Owner | None, Owner | None], frozenset[str]] = {}

    def subjects(self, record: Record, placed: Placed | None) -> frozenset[str]:
        """Return every creator and twin that this record belongs to by any rule."""
        told = owner_of(record, self._router.ownership, self._router.lookup_key)
        rules = (
            placed.target if placed is not None else None,
            placed.owner if placed is not None else None,
            told[0] if told is not None else None,
        )
        answer = self._known.get(rules)
        if answer is None:
            answer = self._known[rules] = self._subjects_of(*rules)
        self._seen[record.id] = answer
        return answer

    def _subjects_of(self, target: str | None, *owners: Owner | None) -> frozenset[str]:
        tenants = {self._source, names.parse(target) if target is not None else None}
        tenants |= {_tenant(owner) for owner in owners if owner is not None}
        return frozenset(subject for tenant in tenants if tenant is not None for subject in _subjects(tenant))

    def seen(self, source_id: str) -> frozenset[str]:
        return self._seen.get(source_id, frozenset())


def take_away(work: Work) -> None:
    """Delete the records of erased tenants that this worker sent after its lease was over.

    Nobody else knows of these records: the certificate is written, and no batch looks for them. Nobody writes for a
    fenced tenant, so nothing else is deleted, however often this is repeated. If the worker dies at any line, the late
    write stays: docs/guarantees.md names this window.
    """
    for namespace, sent in work.sent.items():
        with work.database.begin() as connection:
            erased = erasures.fenced(connection, set().union(*sent.values(), subjects_of(namespace)))
        _delete(work.target.index, namespace, [record_id for record_id, subjects in sent.items() if subjects & erased])
        if subjects_of(namespace) & erased:
            drop_if_empty(work.target.index, namespace)


def _delete(index: Index, namespace: str, ids: Sequence[str]) -> None:
    """Delete these ids of an erased tenant. Tries repeat without a look between, because nobody writes these ids."""
    for start in range(0, len(ids), index.limits.delete_ids):
        batch_ids = ids[start : start + index.limits.delete_ids]
        patiently(lambda batch_ids=batch_ids: index.delete(namespace, batch_ids))  # type: ignore[misc]


def require_no_erasure(connection: sa.Connection, source: str) -> None:
    """Raise Later while a tenant is being erased: missing records may be the tenant's, and the books will drop them."""
    if erasures.under_way(connection):
        raise Later(_ERASED_SOON_S, f"a tenant is being erased: records missing from {source} may be the tenant's")


def drop_if_empty(index: Index, namespace: str) -> None:
    """Drop an erased tenant's namespace, unless something is in it. Each repetition begins by looking.

    A request without an answer may be carried out later. It then deletes records that a readmitted tenant wrote within
    the time of a request. That cannot happen if the store compares versions.
    """

    def look_and_drop() -> None:
        version = index.version(namespace) if isinstance(index, Conditional) else None
        if index.list_ids(namespace).ids:
            return
        if isinstance(index, Conditional):
            with suppress(Changed):  # somebody wrote to the namespace since
                index.delete_namespace_if(namespace, version)
        else:
            index.delete_namespace(namespace)

    patiently(look_and_drop)


def subjects_of(namespace: str) -> frozenset[str]:
    """Return the creator and the twin in a namespace's name; nothing if the name has another form."""
    tenant = names.parse(namespace)
    return frozenset(_subjects(tenant)) if tenant is not None else frozenset()


def _tenant(owner: Owner) -> Tenant:
    return Tenant(owner.creator, owner.twin)


@cache
def _subjects(tenant: Tenant) -> tuple[str, ...]:
    creator = subject_of(Tenant(tenant.creator))
    return (creator,) if tenant.twin is None else (creator, subject_of(tenant))
