"""Bulk import: the store itself fills a plan's target from files in a bucket, before the job proves and completes it.

Nothing of ours is written here. The store's own list of imports remembers what an apply began: stopped in the middle,
the import goes on there, and the next apply of the same plan waits for it. Two applies at once may both begin one; both
write the same records, or the service refuses the second.
"""

from collections.abc import Callable

from migrations.findings import few
from migrations.plan import Plan
from orchestrator.bootstrap import Fleet
from orchestrator.services.conversion import was_there
from vecfleet.errors import Refused
from vecfleet.names import DEFAULT, canonical
from vecfleet.stores.base import BulkFiles, BulkImport, IndexInfo

OnWait = Callable[[BulkImport], None]


def require_wait(files: BulkFiles, on_wait: OnWait | None) -> OnWait:
    """Return what is told of each look. Raises Refused where nobody waits: it takes ten minutes or longer."""
    if on_wait is None:
        raise Refused(
            f"{files.uri} is imported by the service first, for as long as that takes",
            code="bulk-import-takes-long",
            next_step="start this plan by `vecfleet apply`, which waits for it",
        )
    return on_wait


def find(fleet: Fleet, plan: Plan, files: BulkFiles) -> BulkImport | None:
    """Return the newest import that an earlier apply of the plan began, unless it has failed; None if there is none.

    None, too, if its index was deleted. No clock is compared with the service's: it is an import of the plan's files
    that was not there when the plan was made.
    """
    store = fleet.accounts.store(plan.target.store)
    info = next((info for info in store.indexes() if info.name == plan.target.index), None)
    if info is None:
        return None
    every = store.imports(info).of(files.uri)
    ours = [begun for begun in every if not begun.failed and not was_there(plan, begun.key, begun.created_at)]
    return max(ours, key=lambda begun: begun.created_at, default=None)


def finish(fleet: Fleet, plan: Plan, begun: BulkImport, on_wait: OnWait) -> BulkImport:
    """Wait for the import that this apply of the plan began, or an earlier one."""
    store = fleet.accounts.store(plan.target.store)
    return store.imports(store.describe(plan.target.index)).finish(begun, on_wait)


def require_new(fleet: Fleet, plan: Plan, target: IndexInfo) -> None:
    """Raise Refused if a namespace of the plan is there: the store imports into new ones only."""
    store, planned = fleet.accounts.store(plan.target.store), {canonical(move.to or "") for move in plan.moves}
    held = [info.name for info in store.open(target).namespaces() if info.count or info.name != DEFAULT]
    there = planned & {*held}
    if there:
        raise Refused(
            f"the service imports into new namespaces only, and {plan.target.index!r} has these: {few(there)}",
            code="namespaces-exist",
            next_step="delete them if nobody needs them, and apply again; or plan without `--via bulk`",
        )


def begin(fleet: Fleet, plan: Plan, files: BulkFiles, target: IndexInfo) -> BulkImport:
    """Have the store begin to import the files into the plan's namespaces."""
    return fleet.accounts.store(plan.target.store).imports(target).begin(files)
