"""Backups that the vector database itself takes of a whole index: `backup create`, `backup list`, `backup restore`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestrator.bootstrap import Fleet
from orchestrator.cli.output import Json, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet
from vecfleet.errors import WrongKind
from vecfleet.stores.base import Backup, Backups

LIMITS = (
    "a backup holds the whole index, except what was written in the last 15 minutes or so and namespace aliases; "
    "it is restored into a new index"
)

IndexName = Annotated[str, typer.Argument(metavar="INDEX", help="The index to back up.")]


def create(index: IndexName, as_json: Json = False) -> None:
    """Have a whole index backed up, and wait until it is: minutes, or hours for a hundred million vectors."""
    with fleet() as parts:
        taken = take(parts, index, quiet=as_json)
        steps = [f"vecfleet backup restore {taken.id} NAME"]
        if as_json:
            say_json({"backup": _body(taken), "next_steps": steps})
        else:
            say_next(steps)


def take(parts: Fleet, index: str, *, quiet: bool = False) -> Backup:
    """Take a backup of the index and return it finished. Raises StoreError where the service takes none."""
    name = f"vecfleet-{index}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    waited = [0]

    def on_wait(backup: Backup) -> None:
        if not quiet and waited[0] % 30 == 0:
            say(f"backup {backup.id} of {index}: {backup.status}")
        waited[0] += 1

    taken = _backups(parts).create(index, name, on_wait)
    if not quiet:
        counted = "" if taken.records is None else f": {taken.records:,} records, {taken.namespaces or 0:,} namespaces"
        say(f"backup {taken.id} of {index} is ready{counted}")
        say(LIMITS)
    return taken


def every(
    index: Annotated[str | None, typer.Argument(metavar="INDEX", help="Only those of this index.")] = None,
    as_json: Json = False,
) -> None:
    """The backups there are."""
    with fleet() as parts:
        backups = _backups(parts).every(index)
    if as_json:
        say_json({"backups": [_body(backup) for backup in backups]})
        return
    rows = (
        (backup.id, backup.index, backup.status, backup.created_at or "", f"{backup.records or 0:,}")
        for backup in backups
    )
    say_table(("backup", "index", "state", "taken", ">records"), rows)


def restore(
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="Its id, as `vecfleet backup list` shows it.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new index to make of it.")],
) -> None:
    """Make a new index from a backup, and wait until it is ready. Nothing that exists is touched."""
    with fleet() as parts:
        _backups(parts).restore(backup, name)
        say(f"the index {name} is there, as {backup} has it")
        say_next([f"vecfleet audit {name}"])


def _backups(parts: Fleet) -> Backups:
    backups = parts.store.backups()
    if backups is None:
        raise WrongKind(f"{parts.store.name} takes no backups", next_step="`vecfleet plan export` makes one")
    return backups


def _body(backup: Backup) -> dict[str, str | int | None]:
    return {
        "id": backup.id,
        "index": backup.index,
        "status": backup.status,
        "records": backup.records,
        "namespaces": backup.namespaces,
        "created_at": backup.created_at,
    }
