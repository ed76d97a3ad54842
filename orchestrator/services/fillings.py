"""Fillings: the service converts or imports into an index before the job of a plan begins there.

No job stands for such an index yet, so the job table names it from before the request on: an erasure certifies nothing
meanwhile, and looks there afterwards. The same row says how far the service is. Where nobody can know whether it is
over, a person gives it up: then certificates name the index.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from migrations.plan import Plan
from orchestrator.bootstrap import Fleet
from orchestrator.core.wording import counted
from orchestrator.ledger import erasures, index_acts, jobs
from orchestrator.ledger.database import Database
from orchestrator.ledger.index_acts import CONVERSION, Filling
from orchestrator.services import refusals
from vecfleet import clock, names
from vecfleet.connections import located
from vecfleet.deadlines import ending_by
from vecfleet.errors import BadInput, Busy, NotFound, Refused, StoreError, Transient, Unreachable
from vecfleet.stores.base import Filling as StoreFilling
from vecfleet.stores.base import IndexInfo

if TYPE_CHECKING:
    from vecfleet.stores.pinecone import Accounts

OnWait = Callable[[StoreFilling], None]
# A request that was noted and that the service does not know may be under way yet.
_SENT_WITHIN = timedelta(minutes=15)
# It leaves so soon after its note, or never: the rest is for its way, and for the service to list what it began.
_LEAVES_WITHIN_S = 300.0
# A snapshot of Pinecone's may lack what was written, and hold what was deleted, so shortly before.
_SNAPSHOT_MISSES = timedelta(minutes=15)


@contextmanager
def asking(fleet: Fleet, plan: Plan, host: str, who: str) -> Iterator[Filling]:
    """Note the filling of a plan's target, then let the service be asked for it within. Safe to repeat.

    A process may be frozen between the two, for so long that `settle` takes the request for one that was never sent:
    it is not sent then, and Transient is raised. `host` is of the index that is there: a conversion's source, an
    import's target. Raises Refused while a tenant is being erased, whose records the service might bring, or was so
    shortly before a conversion, or while that index is wiped.
    """
    looked_at = clock.now()
    noted = _begin(fleet, plan, host, who)
    with ending_by(looked_at + _LEAVES_WITHIN_S):
        yield noted


def _begin(fleet: Fleet, plan: Plan, host: str, who: str) -> Filling:
    with fleet.database.begin() as connection:
        jobs.lock_claims(connection)
        noted = _note(connection, plan, who)
        if erasures.under_way(connection):
            raise Refused(
                "a tenant is being erased, and the service might bring its records to the new index",
                code="erasure-under-way",
                next_step="apply again once the erasure has its certificate",
            )
        if plan.policies.converted:
            _require_in_every_snapshot(connection)
        index_acts.require_not_wiped(connection, host)
        return noted


def _require_in_every_snapshot(connection: sa.Connection) -> None:
    """Raise Refused if a snapshot may hold a tenant's records that an erasure deleted and certified to be gone."""
    certified_at = erasures.last_certified_at(connection)
    if certified_at is not None and refusals.now(connection) < certified_at + _SNAPSHOT_MISSES:
        raise Refused(
            "a tenant was erased, and the snapshot that the service converts may be older than that: it would bring "
            "the tenant's records to the new index",
            code="erasure-recent",
            next_step=f"apply again after {certified_at + _SNAPSHOT_MISSES:%H:%M:%S %Z}; or plan without "
            "`--via convert`",
        )


def go_on(fleet: Fleet, plan: Plan, who: str, begun_at: datetime) -> Filling:
    """Note a filling that the service began at that time, for an earlier apply of the plan. Safe to repeat."""
    with fleet.database.begin() as connection:
        return _note(connection, plan, who, begun_at)


def _note(connection: sa.Connection, plan: Plan, who: str, begun_at: datetime | None = None) -> Filling:
    filled_from = plan.source.typed if plan.policies.converted else None
    return index_acts.note_filling(connection, plan.target.typed, filled_from, plan.digest, who, begun_at)


def has_ended(accounts: "Accounts", filling: Filling) -> bool:
    """Say whether the service fills the index no longer, once it has done what this plan asked for.

    An index takes several imports at once, perhaps two of this plan's: `settle` ends the filling after the last one.
    """
    if filling.kind == CONVERSION:
        return True
    store, name = accounts.located(filling.index)
    return not store.imports(store.describe(name)).under_way()


def require_none_erased(fleet: Fleet, plan: Plan, target: IndexInfo, noted: Filling) -> None:
    """Raise Refused if namespaces of a tenant that was erased are in the index now.

    The files or the snapshot may be older than the erasure. If nothing else is brought there, the filling is over then:
    the next erasure looks into the index.
    """
    from vecfleet.tenancy.fences import subjects_of  # loads an HTTP client: a plan is read without it

    index = fleet.accounts.store(plan.target.store).open(target)
    owners = {info.name: names.parse(info.name) for info in index.namespaces()}
    subjects = {name: subjects_of(tenant) for name, tenant in owners.items() if tenant is not None}
    over = has_ended(fleet.accounts, noted)
    with fleet.database.begin() as connection:
        erased = erasures.fenced(connection, set().union(*subjects.values()))
        back = sorted(name for name, of_name in subjects.items() if erased & set(of_name))
        if not back:
            return
        if over:
            index_acts.settle(connection, noted)
    raise Refused(
        f"{plan.target.typed} holds {counted(len(back), 'namespace', 'namespaces')} of tenants that were erased: the "
        "service brought them back, or an application wrote them",
        code="erased-came-back",
        next_step="erase these tenants again: `vecfleet forget`; then apply this plan again",
    )


@contextmanager
def noting(fleet: Fleet, plan: Plan, who: str, on_wait: OnWait | None) -> Iterator[OnWait | None]:
    """Have others see how far the service is, too, for as long as somebody waits for it.

    Each look is noted in a transaction of its own, which no other step rests on: a job table that is away for a moment
    ends no wait. Dies at any line: after half a minute without a look nobody is said to wait.
    """
    if on_wait is None:
        yield None
        return

    def note(told: Mapping[str, Any] | None) -> None:
        with suppress(Unreachable, Busy), fleet.database.begin() as connection:
            index_acts.note_look(connection, plan.target.typed, plan.digest, told)

    def tell(filling: StoreFilling) -> None:
        figures = {"percent": filling.percent, "records": filling.records, "status": filling.status}
        note({"doing": filling.doing, "so_far": filling.so_far, **figures})
        on_wait(filling)

    try:
        yield tell
    finally:
        note(None)


def settle(database: Database, accounts: "Accounts") -> None:
    """End the fillings that the service has ended or never began, and whose plans nobody applied to the end.

    Looks at the service without a transaction, then notes the result of each filling in one of its own, unless it was
    asked for anew meanwhile: safe to repeat, and to die at any line. Those too are looked at that a person gave up: an
    account may be known again. Raises Transient: who asks again may hear more.
    """
    with database.begin() as connection:
        every, now = index_acts.fillings(connection), refusals.now(connection)
    for filling in every:
        seen = _look(accounts, filling, now)
        with database.begin() as connection:
            if seen.is_over:
                index_acts.settle(connection, filling)
            else:
                index_acts.note_stuck(connection, filling, seen.stuck)


def give_up(fleet: Fleet, index: str, who: str) -> Filling:
    """Give up a filling of which nobody can know whether it is over; certificates name its index from then on.

    Looks first: a filling that is over ends, and one that will end by itself, or by what a person can do, is not given
    up. The last transaction holds the act and its audit entry. Dies before it: nothing was given up. Raises NotFound if
    nothing fills the index, and Refused with what to do instead.
    """
    filling = to_give_up(fleet, index)
    assert filling.stuck is not None, "it was looked at"
    with fleet.database.begin() as connection:
        index_acts.give_up(connection, filling, who, filling.stuck)
    return filling


def to_give_up(fleet: Fleet, index: str) -> Filling:
    """Return a filling of an index, once it is certain that nobody can know whether it is over. Raises as `give_up`.

    Settles all that can be settled, as `settle` does.
    """
    settle(fleet.database, fleet.accounts)
    with fleet.database.begin() as connection:
        every = [filling for filling in index_acts.fillings(connection) if filling.index == index]
    if not every:
        raise NotFound(
            f"the service is not known to fill {index!r} any more",
            next_step="list them all: `vecfleet filling list`",
        )
    standing = [filling for filling in every if not filling.is_given_up]
    if not standing:
        raise Refused(
            f"{every[0].given_up_by} gave up the filling of {index} already",
            code="filling-given-up",
            next_step="erase tenants: their certificates name it",
        )
    stuck = [filling for filling in standing if filling.stuck is not None]
    if not stuck:
        raise Refused(
            f"the service {standing[0].doing}; it may not be done, and will say so itself when it is",
            code="filling-under-way",
            next_step=f"apply its plan to its end; if that failed, delete {index}; then erase tenants again",
        )
    return stuck[0]


def reachable(accounts: "Accounts", given_up: Iterable[Filling]) -> set[str]:
    """Return the indexes, of fillings given up, that can be looked into all the same: an erasure does."""
    there = set()
    for filling in given_up:
        with suppress(BadInput, StoreError):
            store, name = accounts.located(filling.index)
            if any(info.name == name and info.ready for info in store.indexes()):
                there.add(filling.index)
    return there


@dataclass(frozen=True, slots=True)
class _Seen:
    """The result of a look at the service. `stuck`: why no look will tell whether the filling is over."""

    is_over: bool
    stuck: str | None = None


_OVER, _GOES_ON = _Seen(is_over=True), _Seen(is_over=False)


def _look(accounts: "Accounts", filling: Filling, now: datetime) -> _Seen:
    """Look at the service. Raises Transient."""
    may_be_sent = now - filling.begun_at < _SENT_WITHIN
    try:
        return _look_there(accounts, filling, may_be_sent=may_be_sent)
    except Transient:
        raise
    except (BadInput, StoreError) as error:
        return _stuck(error.message)


def _look_there(accounts: "Accounts", filling: Filling, *, may_be_sent: bool) -> _Seen:
    """Say whether it is over. An index that is gone is filled no more; the next one of its name is another.

    A failed conversion leaves an index that nobody can read: its filling ends when a person has deleted it.
    """
    account, name = located(filling.index)
    store = accounts.store(account)
    info = next((info for info in store.indexes() if info.name == name), None)
    if info is None:
        return _GOES_ON if may_be_sent else _OVER
    if filling.kind != CONVERSION:
        imports = store.imports(info).under_way()
        if any(one.is_known for one in imports) or (may_be_sent and not imports):
            return _GOES_ON
        return _unknown("an import into it", imports[0].status) if imports else _OVER
    assert filling.filled_from is not None
    conversion = store.conversions().find(located(filling.filled_from)[1], name)
    if conversion is None or conversion.created_at < filling.begun_at - _SENT_WITHIN:
        if may_be_sent:
            return _GOES_ON
        return _OVER if info.ready else _stuck("the service knows no such conversion, and the index is not ready")
    if conversion.complete:
        return _OVER
    return _GOES_ON if conversion.is_known else _unknown("the conversion", conversion.status)


def _stuck(why: str) -> _Seen:
    return _Seen(is_over=False, stuck=why)


def _unknown(what: str, status: str) -> _Seen:
    return _stuck(f"{what} has the status {status!r}, which is not known here: see in the service's console")
