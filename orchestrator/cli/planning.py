"""`plan creators`, `plan namespaces`, `plan index`, `plan reverse` and `apply`."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import typer

from migrations.analysis import KEEPING
from migrations.estimating import Prices
from migrations.idsources import find_ids
from migrations.namespaces import NamespacesOptions, naming_of, plan_namespaces, read_pairs
from migrations.plan import Plan, read_plan, write_plan
from migrations.previewing import MappedRecord, preview
from migrations.recipes import CreatorsOptions, IndexOptions, plan_creators, plan_index
from migrations.renaming import Pair
from migrations.reversing import plan_reverse
from orchestrator.bootstrap import Fleet
from orchestrator.cli import rendering
from orchestrator.cli.looking import PlanFile
from orchestrator.cli.mapping import mapped_to_json, say_mapped, with_shared
from orchestrator.cli.options import NamespaceOption, NewIndexOptions, PlanOptions, RenamingOptions, SkipOption
from orchestrator.cli.output import JobId, Json, again, aside, say, say_json, say_next, typed
from orchestrator.cli.session import fleet, who
from orchestrator.cli.watching import PROVEN, watch
from orchestrator.core.following import of_writers
from orchestrator.core.next_steps import going_back
from orchestrator.core.states import JOB_ENDED, JobState
from orchestrator.core.wording import being, in_namespaces, numbered
from orchestrator.ledger import jobs, moves
from orchestrator.ledger import status as job_status
from orchestrator.services import apply as applying
from orchestrator.services import refusals
from orchestrator.services.fillings import OnWait
from orchestrator.telemetry import tracing
from vecfleet.connections import PINECONE
from vecfleet.errors import BadInput, Refused
from vecfleet.stores.base import Backup, Filling
from vecfleet.stores.encoded_ids import seen

_PERCENT_TOLD = 10
_OF_ONE_RUN = ("--out", "--json")
_ELSEWHERE = re.compile(r"^[/~]|=[/~]|://")
_MAPPED_SHOWN = 3  # records, of the plan; the dry run shows all that were looked at


@with_shared("options", PlanOptions)
def creators(
    options: PlanOptions,
    index: Annotated[
        str | None, typer.Argument(metavar="INDEX", help="The index to regroup (default: PINECONE_INDEX_NAME).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan to rename the namespaces of one index to creator_{creator}_twin_{twin}. Writes the plan file only."""
    with fleet() as parts:
        chosen = index or parts.settings.pinecone_index_name
        if chosen is None:
            raise BadInput("no index is named", next_step="name one that `vecfleet audit` lists")
        store, name = parts.accounts.located(chosen)
        recipe = CreatorsOptions(
            index=name, grouping=options.grouping(parts.settings), common=options.common(parts.settings)
        )
        write(parts, plan_creators(store, recipe, now=datetime.now(UTC)), options.out, as_json=as_json)


@with_shared("options", RenamingOptions)
@with_shared("new", NewIndexOptions)
def namespaces(
    options: RenamingOptions,
    new: NewIndexOptions,
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index that holds them.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="OLD=NEW…", help="prod=prod_v2; 'tenant-*=t/{1}': {1} is what the first * stands for."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", metavar="INDEX", help="Another index for them; created if it does not exist.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="More pairs: CSV or YAML of old, new.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Several namespaces may become one.")] = False,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Split: 'all=team-{value}', where {value} is each record's value of this key."
        ),
    ] = None,
    otherwise: Annotated[
        str | None,
        typer.Option("--else", metavar="NAMESPACE", help="Send records without the key here, instead of parking them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan to copy namespaces under new names: rename, merge or split them. Writes the plan file only."""
    with fleet() as parts:
        settings = parts.settings
        given = tuple(map(Pair.read, pairs or ())) + (read_pairs(settings.vecfleet_root, file) if file else ())
        (store, name), (into, target) = parts.accounts.located(index), parts.accounts.located(target or index)
        recipe = NamespacesOptions(
            index=name,
            naming=naming_of(given, merges=merge, key=by, otherwise=otherwise),
            target=target,
            new=new.new_index(),
            common=options.common(settings),
        )
        plan = plan_namespaces(store, recipe, now=datetime.now(UTC), into=into)
        write(parts, plan, options.out, as_json=as_json)


@with_shared("options", PlanOptions)
@with_shared("new", NewIndexOptions)
def index(
    options: PlanOptions,
    new: NewIndexOptions,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The index to copy.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The index to copy to; created if it does not exist.")
    ],
    ids: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Ids of a pod index: CSV namespace,id, or NAMESPACE=FILE.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan to copy every namespace to another index, under its own name or regrouped. Writes the plan file only."""
    with fleet() as parts:
        settings = parts.settings
        (store, from_index), (into, to_index) = parts.accounts.located(source), parts.accounts.located(target)
        recipe = IndexOptions(
            source=from_index,
            target=to_index,
            grouping=options.grouping(settings) if options.regroups else None,
            new=new.new_index(),
            ids=find_ids(settings.vecfleet_root, ids) if ids else None,
            common=options.common(settings),
        )
        plan = plan_index(store, recipe, now=datetime.now(UTC), into=into)
        write(parts, plan, options.out, as_json=as_json)


def write(parts: Fleet, found: Plan, out: Path | None, *, as_json: bool) -> None:
    """Write a plan file; show what it says and what to type next."""
    path = out or _unused(parts.settings.vecfleet_root / "plans", f"{found.recipe}-{found.source.index}")
    mapped = _preview(parts, found)
    sealed = write_plan(found.model_copy(update={"command": _lasting(typed.get(()))}), path)
    steps = [f"vecfleet show {path}", f"vecfleet apply {path} --dry-run"]
    if any(KEEPING in warning for warning in sealed.warnings):
        steps.append(again("--conflicts", "keep"))
    if as_json:
        document = {"file": str(path), "plan": sealed.model_dump(mode="json"), "next_steps": steps}
        say_json(document | ({"mapped": mapped_to_json(mapped)} if mapped else {}))
        return
    rendering.plan(sealed)
    say_mapped(mapped, shown=_MAPPED_SHOWN)
    say(f"wrote {path}; nothing else was changed")
    say_next(steps)


def _lasting(words: Sequence[str]) -> tuple[str, ...]:
    """Return a plan's command line without its file and its look, to be typed again.

    Nothing of it if it names a place of one machine, or an address: a plan holds neither.
    """
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith(_OF_ONE_RUN):
            kept.append(word)
        skip = not skip and word in _OF_ONE_RUN and word != "--json"
    return () if any(_ELSEWHERE.search(word) for word in kept) else tuple(kept)


def _preview(parts: Fleet, plan: Plan) -> list[MappedRecord]:
    source = seen(parts.store_named(plan.source.store), plan.policies.encoded_ids)
    return preview(source, plan, parts.settings.vecfleet_root)


def _unused(folder: Path, title: str) -> Path:
    """Return a name that no plan has yet: an existing file may be another job's plan, or a job's way back."""
    name = re.sub(r"[^\w.-]+", "-", title)
    paths = (folder / f"{name}{'' if number == 1 else f'-{number}'}.yaml" for number in count(1))
    return next(path for path in paths if not path.exists())


def apply(
    plan: PlanFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the plan against the indexes, print each move, write nothing.")
    ] = False,
    backup: Annotated[
        bool, typer.Option("--backup", help="Have the vector database back up the whole source index first.")
    ] = False,
    no_backup: Annotated[
        bool, typer.Option("--no-backup", help="Make no backup: after clean-up only `plan reverse` is left.")
    ] = False,
    watching: Annotated[bool, typer.Option("--watch", help="Stay until the job rests; 0 only if verified.")] = False,
    number: Annotated[
        bool, typer.Option("--number", help="Print the job's number alone, for JOB=$(…); all else goes to stderr.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a job from a plan. The fleet does the work; this command may end."""
    if backup and no_backup:
        raise BadInput(
            "--backup makes a backup first, and --no-backup makes none: they exclude each other",
            next_step="give one of the two",
        )
    if number:
        _require_alone({"--dry-run": dry_run, "--watch": watching, "--json": as_json})
    with aside(number), fleet() as parts:
        reviewed = read_plan(plan)
        if dry_run:
            _show_dry_run(parts, reviewed, plan, as_json=as_json)
            return
        tracing.start(parts.settings, "cli")
        taken: Backup | None = None
        if backup:
            if not reviewed.source.store.startswith(PINECONE):
                raise BadInput(
                    f"--backup works only for Pinecone; the source is in {reviewed.source.store}",
                    next_step="back it up by its own means, and apply with --no-backup",
                )
            applying.check(parts, reviewed)  # before the backup: one that is not needed would still be paid for
            from orchestrator.cli.whole_indexes import take_backup  # loads what erases and wipes

            taken = take_backup(parts, reviewed.source.typed, quiet=as_json)
        try:
            job_id = applying.apply(
                parts, reviewed, who=who(), backup=taken, no_backup=no_backup, on_wait=_waiting(as_json=as_json)
            )
        except Refused as refused:
            if refused.code == applying.BACKUP_MISSING:
                options = (
                    ("--backup", "--no-backup") if reviewed.source.store.startswith(PINECONE) else ("--no-backup",)
                )
                refused.next_step = "\n  or: ".join(again(option) for option in options)
            raise
        from orchestrator.doctor import strangers  # loads Celery

        warnings = strangers(parts, (reviewed.source.store, reviewed.target.store))
        steps, way_back = [f"vecfleet status {job_id} --watch"], numbered(applying.way_back(reviewed, taken), job_id)
        with parts.database.begin() as connection:
            writers = of_writers(job_status.reading(connection, job_id, namespaces=0))
        if warnings:
            steps.insert(0, "vecfleet doctor")
        if number:
            typer.echo(job_id)
        if not as_json:
            say(f"job {job_id} is planned: {in_namespaces(reviewed.records, len(reviewed.moves))}")
            say(f"way back: {way_back}")
            if writers:
                say(f"frozen: {writers}")
            for warning in warnings:
                say(f"{warning}: the job pauses there", style="yellow")
        if watching:
            watch(parts, job_id, PROVEN, as_json=as_json)
        elif as_json:
            say_json(
                {
                    "job": job_id,
                    "plan_digest": reviewed.digest,
                    "way_back": way_back,
                    "writers": writers,
                    "warnings": warnings,
                    "next_steps": steps,
                }
            )
        else:
            say_next(steps)


def _require_alone(others: Mapping[str, bool]) -> None:
    """Raise BadInput if the number of a job is wanted together with what makes no job, or prints more."""
    for option in (option for option, given in others.items() if given):
        raise BadInput(
            f"--number prints the job's number and exits; it cannot be combined with {option}",
            next_step="`JOB=$(vecfleet apply PLAN --number)`, and then `vecfleet status $JOB --watch`"
            if option == "--watch"
            else f"leave one of them out: {option} or --number",
        )


def _waiting(*, as_json: bool) -> OnWait:
    """Return what says, now and then, how far the service's conversion or import is."""
    told: list[tuple[int, str]] = []

    def tell(filling: Filling) -> None:
        step = int(filling.percent) // _PERCENT_TOLD, filling.status
        if not as_json and told[-1:] != [step]:
            told.append(step)
            say(f"the service {filling.doing}: {filling.so_far}")

    return tell


def _show_dry_run(parts: Fleet, plan: Plan, path: Path, *, as_json: bool) -> None:
    checked = applying.check(parts, plan)
    steps = [f"vecfleet apply {path}{'' if plan.keeps_files else ' --no-backup'} --watch"]
    if as_json:
        moves = [move.model_dump(mode="json") for move in checked.moves]
        say_json({"moves": moves, "estimate": plan.estimate.model_dump(mode="json"), "next_steps": steps})
        return
    rendering.moves(plan)
    say_mapped(_preview(parts, plan))
    rendering.writers(plan)
    rendering.estimate(plan)
    say("the plan fits the index as it is now; this was a dry run and nothing was written")
    say_next(steps)


def reverse(
    job: JobId,
    namespace: NamespaceOption = None,
    skip: SkipOption = None,
    writers: Annotated[
        Literal["freeze", "delta"],
        typer.Option(
            help="Writers stop, or go on writing where the records are now, which is read until nothing changes."
        ),
    ] = "freeze",
    max_passes: Annotated[int, typer.Option(min=1, help="At most so many readings, if writers go on.")] = 5,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The plan file (default: plans/ under VECFLEET_ROOT).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan to return an ended job's records to where they came from, as they were. Writes the plan file only.

    A job that has not ended is taken back by `reverse`, `cancel` and `rollback`: the answer names which.
    """
    with fleet() as parts:
        with parts.database.begin() as connection:
            row = jobs.get(connection, job)
            namesakes = jobs.namesakes(connection, row)
            targets = [target.namespace for target in moves.targets_of_job(connection, job)]
            deleting = refusals.cleaned_any(connection, row)
        if row.state not in JOB_ENDED:
            raise Refused(
                f"job {job} {being(row.state)} and has not ended: it holds its namespaces until then, so that no plan "
                "of a way back can be applied",
                code="job-live",
                next_step=going_back(row, deleting=deleting),
            )
        if row.state is JobState.ROLLED_BACK:
            raise Refused(
                f"job {job} was rolled back: nothing of it is left to take back",
                code="nothing-to-reverse",
                next_step="`vecfleet jobs` lists the others",
            )
        if namesakes:
            other, name = namesakes[0]
            raise Refused(
                f"job {other} took a namespace {name!r} of another index to the same targets: "
                "their records cannot be told apart, and would go to the wrong index",
                code="namesake-at-target",
                next_step=f"roll job {other} back first if it still can be: `vecfleet status {other}`",
            )
        there, back = row.plan.target.store, row.plan.source.store
        encoded = row.plan.policies.encoded_ids
        plan = plan_reverse(
            seen(parts.store_named(there), encoded),
            row.plan,
            targets,
            prices=Prices.of(parts.settings),
            now=datetime.now(UTC),
            into_store=seen(parts.store_named(back), encoded) if back != there else None,
            only=namespace or (),
            skip=skip or (),
            writers=writers,
            max_passes=max_passes,
        )
        write(parts, plan, out, as_json=as_json)
