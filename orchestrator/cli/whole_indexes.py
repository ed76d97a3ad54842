"""Commands over an index as a whole: back it up, wipe it, decommission it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import sqlalchemy as sa
import typer

from orchestrator.bootstrap import Fleet
from orchestrator.cli.erasing import Yes
from orchestrator.cli.output import Json, confirm_by_typing, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet, wait, wait_for_reads, who
from orchestrator.core.guards import DecommissionFacts, against_decommission
from orchestrator.core.hooks import Hook
from orchestrator.core.model import Job
from orchestrator.core.states import JobState
from orchestrator.core.two_persons import TwoPersons
from orchestrator.core.wording import counted, in_namespaces
from orchestrator.ledger import index_acts, route_table, whole_indexes
from orchestrator.ledger.consents import Agreement
from orchestrator.services import fillings, refusals
from orchestrator.services import hooks as leave
from orchestrator.services.erase import exporter
from orchestrator.services.exports import unlike
from vecfleet import clock
from vecfleet.connections import full_name
from vecfleet.deadlines import ending_by
from vecfleet.errors import BadInput, Objection, Refused
from vecfleet.stores.base import Backup, Index, IndexInfo
from vecfleet.tenancy import erasing, finding

LIMITS = (
    "a backup holds the whole index, except what was written in the last 15 minutes or so and namespace aliases; "
    "it is restored into a new index"
)

IndexName = Annotated[str, typer.Argument(metavar="INDEX", help="The index to back up.")]


def create(index: IndexName, as_json: Json = False) -> None:
    """Back up a whole index, and wait until it is done: minutes, or hours for a hundred million vectors."""
    with fleet() as parts:
        taken = take_backup(parts, index, quiet=as_json)
        steps = [f"vecfleet backup restore {taken.id} {full_name(parts.accounts.located(index)[0].name, 'NAME')}"]
        if as_json:
            say_json({"backup": _body(taken), "next_steps": steps})
        else:
            say_next(steps)


def take_backup(parts: Fleet, index: str, *, quiet: bool = False) -> Backup:
    """Take a backup of the index and return it finished. Raises StoreError where the service takes none."""
    store, bare = parts.accounts.located(index)
    name = f"vecfleet-{bare}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    waited = [0]

    def on_wait(backup: Backup) -> None:
        if not quiet and waited[0] % 30 == 0:
            say(f"backup {backup.id} of {index}: {backup.so_far}")
        waited[0] += 1

    taken = store.backups().create(bare, name, on_wait)
    if not quiet:
        held = "" if taken.records is None else f": {in_namespaces(taken.records, taken.namespaces or 0)}"
        say(f"backup {taken.id} of {index} is ready{held}")
        say(LIMITS)
    return taken


def every(
    index: Annotated[str | None, typer.Argument(metavar="INDEX", help="Only this index; or pinecone@NAME.")] = None,
    as_json: Json = False,
) -> None:
    """The backups there are."""
    with fleet() as parts:
        store, name = parts.accounts.account(index)
        kept = store.backups().every(name)
        backups = [replace(backup, index=full_name(store.name, backup.index)) for backup in kept]
    steps = [f"vecfleet backup create {index}" if name else "vecfleet audit"]
    if backups:
        newest = max(backups, key=lambda backup: backup.created_at or "")
        steps = [f"vecfleet backup restore {newest.id} {newest.index}-restored"]
    if as_json:
        say_json({"backups": [_body(backup) for backup in backups], "next_steps": steps})
        return
    if not backups:
        say(f"there is no backup of {index}" if name else "there are no backups")
        say_next(steps)
        return
    rows = (
        (backup.id, backup.index, backup.status, backup.created_at or "", f"{backup.records or 0:,}")
        for backup in backups
    )
    say_table(("backup", "index", "state", "taken", ">records"), rows)
    say_next(steps)


def restore(
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="Its id, as `vecfleet backup list` shows it.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the new index.")],
) -> None:
    """Make a new index from a backup, and wait until it is ready. Touches nothing that exists."""
    with fleet() as parts:
        store, bare = parts.accounts.located(name)
        store.backups().restore(backup, bare)
        say(f"the index {name} is there, as {backup} has it")
        say_next([f"vecfleet audit {name}"])


def _body(backup: Backup) -> dict[str, str | int | None]:
    return {
        "id": backup.id,
        "index": backup.index,
        "status": backup.status,
        "records": backup.records,
        "namespaces": backup.namespaces,
        "created_at": backup.created_at,
    }


_UNCONFIRMED = 1
_STOPPED = "its writers must be stopped by now, but reads may not show their last writes yet"
_UNANSWERED = "a deletion got no answer and may still take effect; then it is read again"


def wipe(
    index: Annotated[str, typer.Option(metavar="NAME", help="The index to empty.")],
    export: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="First export everything to files under VECFLEET_ROOT.")
    ] = None,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Confirm that there is no way back.")] = False,
    yes: Yes = False,
) -> None:
    """Start fresh: delete every namespace of an index, and keep the index. Stop its writers first.

    It lists and reads what it deletes and exports one freshness wait after you confirm: until then reads may lag.
    """
    if (export is None) == (not no_backup):
        raise BadInput("an emptied index has no way back", next_step="give either --export FOLDER or --no-backup")
    with fleet() as parts:
        opened = parts.accounts.open(index)
        index = opened.info.name
        fillings.settle(parts.database, parts.accounts)
        with parts.database.begin() as connection:
            whole_indexes.require_unused(connection, index, opened.info.host)
            leave.require_no_hook(connection, Hook.BEFORE_CLEAN_UP)
        namespaces = finding.everything(opened)
        records = sum(namespace.count for namespace in namespaces)
        say(f"This deletes {in_namespaces(records, len(namespaces))} of the index {index}.")
        confirm_by_typing(index, yes=yes)
        agree = partial(_agree, index=opened.info, step=f"vecfleet wipe --index {index}")
        leave.with_leave(parts.database, agree)
        wait_for_reads(opened, parts.settings.freshness_wait_seconds, _STOPPED)
        _require_as_shown(opened, namespaces)
        if export is not None:
            folder = parts.folders.open(parts.folders.create_like(export, opened.info, None, None))
            copy = exporter(folder)
            exported = sum(copy(opened, namespace) for namespace in namespaces)
            differing = unlike(opened, folder, namespaces)
            if differing:
                raise Refused(
                    f"{len(differing):,} of {len(namespaces):,} namespaces are not in {export} as they are in {index}; "
                    "nothing was deleted",
                    code="export-differs",
                    next_step="stop the writers of the index, and wipe again",
                )
            say(f"exported, and read back: {counted(exported, 'record', 'records')} to {export}")
            _require_as_shown(opened, namespaces)
        lands_in_s = parts.settings.request_deadline_seconds + parts.settings.freshness_wait_seconds
        with parts.database.begin() as connection:
            leave.require_no_hook(connection, Hook.BEFORE_CLEAN_UP)
            leave.use_two(connection, agree(connection))
            host = opened.info.host
            hold = whole_indexes.note_wipe(connection, who(), index, host, records, len(namespaces), lands_in_s)

        def hold_on() -> None:
            with parts.database.begin() as connection:
                index_acts.go_on(connection, hold, lands_in_s)

        left = erasing.delete_all(
            opened,
            namespaces,
            confirm_s=max(erasing.CONFIRM_S, parts.settings.freshness_wait_seconds),
            before_each=hold_on,
            lasts_s=parts.settings.request_deadline_seconds,
            wait_for_landing=lambda: wait(lands_in_s, _UNANSWERED),
        )
        with parts.database.begin() as connection:
            index_acts.end(connection, hold)
        for remainder in left:
            say(f"left: {remainder}", style="red")
        say(
            f"{index}: {counted(records, 'record', 'records')} deleted at {datetime.now(UTC):%H:%M:%S} UTC",
            style="bold",
        )
        say_next([f"vecfleet audit {index}"])
    if left:
        raise typer.Exit(_UNCONFIRMED)


def _agree(connection: sa.Connection, index: IndexInfo, step: str) -> Agreement | None:
    """Return the agreement of two persons on this command about an index, where clean-ups need two."""
    return leave.require_two(connection, TwoPersons.CLEAN_UP, f"{step} at {index.host}", who(), step)


def _require_as_shown(index: Index, shown: list[finding.TenantPlace]) -> None:
    """Refuse to delete more than was shown, or anything that was not exported. Raises Refused."""
    now = finding.everything(index)
    if _sizes(now) != _sizes(shown):
        records = sum(namespace.count for namespace in now)
        raise Refused(
            f"{index.info.name} changed since it was shown, or reads lagged then; nothing was deleted. It holds "
            f"{in_namespaces(records, len(now))} now",
            code="index-changed",
            next_step="stop its writers, and wipe again",
        )


def _sizes(namespaces: list[finding.TenantPlace]) -> dict[str, tuple[int, int]]:
    """Return the count and digest of the ids of each namespace: no more is deleted than was shown."""
    return {namespace.name: (namespace.count, namespace.digest) for namespace in namespaces}


def decommission(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The old index.")],
    yes: Yes = False,
) -> None:
    """Delete an old index, days after everything in it was moved, proven, cut over and cleaned up."""
    with fleet() as parts:
        store, bare = parts.accounts.located(index)
        index = full_name(store.name, bare)
        fillings.settle(parts.database, parts.accounts)
        moved = _facts(parts, index)
        backups = len(store.backups().every(bare))
        say(f"This deletes the index {index} for good. It is empty: {_jobs(moved)} took everything out of it.")
        say(f"way back: {backups:,} backups of it are kept; what was in it is where the jobs took it")
        confirm_by_typing(index, yes=yes)
        opened = parts.accounts.open(index)
        agree = partial(_agree, index=opened.info, step=f"vecfleet decommission {index}")
        leave.with_leave(parts.database, agree)
        wait_for_reads(opened, parts.settings.freshness_wait_seconds, _STOPPED)
        _facts(parts, index)  # again: the person took their time to answer, and reads may have lagged before
        looked_at = clock.now()
        with parts.database.begin() as connection:
            leave.use_two(connection, agree(connection))
            whole_indexes.note_decommission(connection, who(), index, opened.info.host, [job.id for job in moved])
        with ending_by(looked_at + whole_indexes.GOES_WITHIN_S):  # frozen for longer, this is not sent
            store.remove(bare)
        say(f"{index} is deleted", style="bold")
        say_next([f"vecfleet report {moved[-1].id}"])


def _facts(parts: Fleet, index: str) -> list[Job]:
    """Return the jobs that took everything out of the index. Raises Refused with every reason against its deletion."""
    store, bare = parts.accounts.located(index)
    opened = parts.accounts.open(index)
    with parts.database.begin() as connection:
        jobs = whole_indexes.read_by(connection, index)
        working = whole_indexes.live_on(connection, opened.info.host)
        routed = route_table.leading_to(connection, opened.info.host, index)
        now = refusals.now(connection)
    facts = DecommissionFacts(
        index=index,
        jobs=jobs,
        working=working,
        held={namespace.name: namespace.count for namespace in finding.everything(opened) if namespace.count},
        protected=store.protected(bare),
        routed=routed,
        after=timedelta(days=parts.settings.decommission_after_days),
    )
    objections = against_decommission(facts, now)
    if objections:
        reasons = [Objection(reason.code, f"{reason}; {step}") for reason, step in objections]
        raise Refused(f"{index}: {reasons[0]}", objections=reasons, next_step=objections[0][1])
    return [job for job in jobs if job.state is JobState.CLEANED]


def _jobs(jobs: list[Job]) -> str:
    return "job " + ", ".join(str(job.id) for job in jobs)
