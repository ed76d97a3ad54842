"""Fillings: the service converts or imports into an index before the job of a plan begins there.

No job stands for such an index yet, so the job table names it from before the request on: an erasure certifies nothing
meanwhile, and looks there afterwards.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from migrations.plan import Plan
from orchestrator.bootstrap import Fleet
from orchestrator.ledger import erasures, index_acts, jobs
from orchestrator.ledger.database import Database
from orchestrator.ledger.index_acts import CONVERSION, Filling
from orchestrator.services import refusals
from vecfleet.connections import located
from vecfleet.errors import Refused

if TYPE_CHECKING:
    from vecfleet.stores.pinecone import Accounts

# A request that was noted and that the service does not know may be under way yet.
_SENT_WITHIN = timedelta(minutes=15)


def begin(fleet: Fleet, plan: Plan, host: str, who: str) -> None:
    """Note the filling of a plan's target before the service is asked for it. Safe to repeat.

    `host` is of the index that is there: a conversion's source, an import's target. Raises Refused while a tenant is
    being erased, whose records the service might bring, or while that index is wiped.
    """
    with fleet.database.begin() as connection:
        jobs.lock_claims(connection)
        _note(connection, plan, who)
        if erasures.under_way(connection):
            raise Refused(
                "a tenant is being erased, and the service might bring its records to the new index",
                code="erasure-under-way",
                next_step="apply again once the erasure has its certificate",
            )
        index_acts.require_not_wiped(connection, host)


def go_on(fleet: Fleet, plan: Plan, who: str, begun_at: datetime) -> None:
    """Note a filling that the service began at that time, for an earlier apply of the plan. Safe to repeat."""
    with fleet.database.begin() as connection:
        _note(connection, plan, who, begun_at)


def _note(connection: sa.Connection, plan: Plan, who: str, begun_at: datetime | None = None) -> None:
    filled_from = plan.source.typed if plan.policies.converted else None
    index_acts.note_filling(connection, plan.target.typed, filled_from, who, begun_at)


def settle(database: Database, accounts: "Accounts") -> None:
    """End the fillings that the service has ended or never began, and whose plans nobody applied to the end.

    A failed conversion leaves an index that nobody can read: its filling ends when a person has deleted it.
    """
    with database.begin() as connection:
        every, now = index_acts.fillings(connection), refusals.now(connection)
    for filling in every:
        if _is_over(accounts, filling, may_be_sent=now - filling.begun_at < _SENT_WITHIN):
            with database.begin() as connection:
                index_acts.settle(connection, filling)


def _is_over(accounts: "Accounts", filling: Filling, *, may_be_sent: bool) -> bool:
    account, name = located(filling.index)
    store = accounts.store(account)
    info = next((info for info in store.indexes() if info.name == name), None)
    if info is None:
        return not may_be_sent
    if filling.kind != CONVERSION:
        return not may_be_sent and not store.imports(info).under_way()
    assert filling.filled_from is not None
    conversion = store.conversions().find(located(filling.filled_from)[1], name)
    if conversion is None or conversion.created_at < filling.begun_at - _SENT_WITHIN:
        return not may_be_sent
    return conversion.is_complete
