"""`forget`, `readmit` and `rehearse deletion`: erase tenants, after showing what goes and asking for the name."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from orchestrator.cli.output import Json, confirm_by_typing, err, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet, who
from orchestrator.core.wording import counted, elapsed
from orchestrator.ledger import erasures
from orchestrator.services import forget as forgetting
from orchestrator.services.erase import CERTIFICATES, PLANS, JobTableBooks, certificate_file
from orchestrator.services.forget import Reach
from vecfleet import names
from vecfleet.errors import BadInput, NotFound
from vecfleet.names import Tenant
from vecfleet.patience import patiently
from vecfleet.tenancy import erasing, finding
from vecfleet.tenancy.fences import subject_of
from vecfleet.tenancy.options import DEFAULT_INDEX
from vecfleet.tenancy.rehearsing import rehearse

Creator = Annotated[str, typer.Option(metavar="ID", help="Whose records.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for the name to be typed.")]
IndexOption = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        metavar="NAME",
        help="Look there; may be repeated (default: PINECONE_INDEX_NAME and the indexes of all jobs).",
    ),
]
_UNCONFIRMED = 1


def forget(
    creator: Creator,
    twin: Annotated[str | None, typer.Option(metavar="ID", help="Only this twin.")] = None,
    index: IndexOption = None,
    export: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="First export everything to files under VECFLEET_ROOT.")
    ] = None,
    repoint: Annotated[
        list[str] | None,
        typer.Option(metavar="ALIAS=NAMESPACE", help="Point an alias there instead of removing it; may be repeated."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase a creator, or one twin, everywhere: indexes, exports, our own tables and logs; and certify it."""
    names.build(creator, twin)
    tenant = Tenant(creator, twin)
    with fleet() as parts:
        places = forgetting.reach(parts, index)
        kept = sorted({*places.kept, *([export] if export is not None else [])})
        if not as_json:
            say(f"This erases {_called(tenant)} for good, wherever its records are in:")
            say(f"{_listed(places)}; our own tables, logs and plan files in {PLANS}/ forget it, too.")
            say(
                "Not reached: indexes that neither a job nor --index names, backups, copies kept elsewhere, "
                "plan files that --out put elsewhere, ownership files, and lists of namespaces. Search those yourself."
            )
            if places.given_up:
                say(f"The service may fill these yet, and somebody gave that up: {', '.join(places.given_up)}. The")
                say("certificate names them.")
            for name, why in places.unread.items():
                say(f"Not looked into, and named by the certificate, is the folder {name}: {why}")
            if kept:
                say(f"Tenants' own exports stay, unsearched, until a person deletes them: {', '.join(kept)}")
        confirm_by_typing(creator if twin is None else twin, yes=yes)
        erased = forgetting.erase(
            parts,
            tenant,
            who(),
            places,
            export=export,
            repoint=dict(_pair(pair) for pair in repoint or ()),
            on_wait=_say_wait,
        )
        near = "" if erased.deleted or as_json else _nearest(places, tenant)
        _show(erased, as_json=as_json, home=parts.settings.vecfleet_home, kept=kept, export=export, near=near)
    if not erased.confirmed:
        raise typer.Exit(_UNCONFIRMED)


def _say_wait(seconds: float, why: str) -> None:
    """Print to stderr why and until when the command waits: with `--json`, stdout holds the document."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    err.print(f"waits until {until:%H:%M:%S} UTC, {elapsed(math.ceil(seconds))}: {why}", soft_wrap=True)


def _show(erased: erasing.Erased, *, as_json: bool, home: Path, kept: list[str], export: str | None, near: str) -> None:
    step = "vecfleet forget again: what is gone already is no error"
    if erased.confirmed:
        step = str(certificate_file(home / CERTIFICATES, erased.certificate))
    if as_json:
        say_json(
            {
                "confirmed": erased.confirmed,
                "records": erased.records,
                "deleted": [
                    {"index": gone.index, "namespace": gone.name, "whole": gone.whole, "records": gone.count}
                    for gone in erased.deleted
                ],
                "aliases": list(erased.aliases),
                "exported": erased.exported,
                "kept": kept,
                "left": list(erased.left),
                "unread": dict(erased.unread),
                "seconds": round(erased.seconds, 3),
                "fence": erased.fence,
                "certificate": dict(erased.certificate),
                "next_steps": [step],
            }
        )
        return
    if erased.deleted:
        say_table(
            ("index", "namespace", ">records", "what went"),
            (
                (
                    gone.index,
                    gone.name,
                    f"{gone.count:,}",
                    "the namespace" if gone.whole else "its records among others'",
                )
                for gone in erased.deleted
            ),
        )
    nothing_found = erased.confirmed and not erased.deleted and not any(erased.certificate["our_tables"].values())
    if nothing_found:
        _say_nothing_was_found(Tenant(erased.creator, erased.twin), near)
    if erased.aliases:
        say(f"aliases: {', '.join(erased.aliases)}")
    if erased.exported is not None:
        records = counted(erased.exported, "record", "records")
        say(f"exported: {records} to {export}, which stays until a person deletes it")
    for name, why in erased.unread.items():
        say(f"not looked into: {name}: {why}", style="red")
    say(f"fence: {erased.fence}")
    for remainder in erased.left:
        say(f"left: {remainder}", style="red")
    done = "confirmed by listing, fetching and querying" if erased.confirmed else "NOT confirmed"
    if not nothing_found:
        say(f"{counted(erased.records, 'record', 'records')} erased in {elapsed(erased.seconds)}, {done}", style="bold")
    say_next([f"read and keep the certificate: {step}" if erased.confirmed else step])


def _say_nothing_was_found(tenant: Tenant, near: str) -> None:
    """Say how to check the name: an erasure of a misspelt name looks like a repeated erasure."""
    named = f"--creator {quote(tenant.creator)}" + (f" --twin {quote(tenant.twin)}" if tenant.twin else "")
    say(f"nothing of {_called(tenant)} was found, so nothing was erased{near}", style="yellow")
    say("Indexes were listed, fetched and queried, and our own tables searched: it is gone already, or the name is")
    say("mistyped, which looks the same. Check the spelling: the fence applies to exactly this name, and")
    say(f"`vecfleet readmit {named}` removes it.")


def _nearest(places: Reach, tenant: Tenant) -> str:
    """Return, as the end of a sentence, the creators there, or the creator's twins, of nearest names."""
    held = patiently(lambda: [there.name for index in places.indexes for there in index.namespaces()])
    tenants = set(filter(None, map(names.parse, held)))
    twins = {there.twin for there in tenants if there.creator == tenant.creator and there.twin is not None}
    if tenant.twin is not None and twins:
        return names.meant(tenant.twin, sorted(twins))
    return names.meant(tenant.creator, sorted({there.creator for there in tenants} - {tenant.creator}))


def readmit(
    creator: Creator,
    twin: Annotated[str | None, typer.Option(metavar="ID", help="Only this twin.")] = None,
) -> None:
    """Let an erased creator, or twin, be written again: remove the fence."""
    names.build(creator, twin)
    with fleet() as parts, parts.database.begin() as connection:
        if not erasures.lift(connection, subject_of(Tenant(creator, twin)), who()):
            raise NotFound(
                f"there is no fence against {_called(Tenant(creator, twin))}: jobs may write its records already",
                next_step="check the spelling; `vecfleet forget` raises a fence for exactly the names it was given",
            )
    say(f"jobs may write records of {_called(Tenant(creator, twin))} again")
    say_next(["vecfleet jobs"])


def deletion(
    creator: Creator,
    twin: Annotated[str, typer.Option(metavar="ID", help="The twin that goes first.")],
    index: Annotated[str | None, typer.Option(metavar="NAME", help="Default: PINECONE_INDEX_NAME.")] = None,
    yes: Yes = False,
) -> None:
    """Erase a test creator's twin, then the creator, for good; print what passed, with measured values."""
    names.build(creator, twin)
    with fleet() as parts:
        name = index or parts.settings.pinecone_index_name or DEFAULT_INDEX
        opened = parts.accounts.open(name)
        going = finding.namespaces_of(opened, creator)
        namespaces = counted(len(going), "namespace", "namespaces")
        say(f"This erases the creator {creator} with {namespaces} from {name}, for good.")
        confirm_by_typing(creator, yes=yes)
        books = JobTableBooks(parts.database, parts.settings)
        results = rehearse(opened, creator, twin, books, who(), erasing.lands_s(parts.settings, [opened]))
    for result in results:
        say(str(result), style=None if result.passed else "red")
    say_next([f"vecfleet audit {name}"])
    # As in seed 001: slow queries are reported and do not fail a rehearsal of deletion.
    if not all(result.passed for result in results if result.name != "Query Performance"):
        raise typer.Exit(_UNCONFIRMED)


def _called(tenant: Tenant) -> str:
    return f"the creator {tenant.creator}" if tenant.twin is None else f"the twin {tenant.twin} of {tenant.creator}"


def _listed(places: Reach) -> str:
    return ", ".join(index.info.name for index in (*places.indexes, *places.exports))


def _pair(text: str) -> tuple[str, str]:
    alias, _, namespace = text.partition("=")
    if not alias or not namespace:
        raise BadInput(f"{text!r} names no alias and namespace", next_step="--repoint ALIAS=NAMESPACE")
    return alias, namespace
