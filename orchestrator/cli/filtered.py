"""`vecfleet delete`: delete a tenant's records that a metadata filter matches, after showing how many they are."""

import shlex
from typing import Annotated, Any

import orjson
import typer

from orchestrator.cli.erasing import Creator, Yes
from orchestrator.cli.output import Json, confirm_by_typing, say, say_json, say_next, typed
from orchestrator.cli.session import fleet, who
from orchestrator.core.wording import counted
from orchestrator.services.filtered import FilteredDeletion
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.filters import compile_filter
from vecfleet.names import Tenant
from vecfleet.tenancy.filtered import AT_MOST, Filtered, require_few


def delete(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index that the tenant uses.")],
    creator: Creator,
    filter_text: Annotated[
        str, typer.Option("--filter", metavar="JSON", help="Which records, as Pinecone writes it; never all of them.")
    ],
    twin: Annotated[
        str | None, typer.Option(metavar="ID", help="This twin's; without it the creator-wide ones, and no twin's.")
    ] = None,
    at_most: Annotated[int, typer.Option(min=1, metavar="N", help="Refuse if more records match.")] = AT_MOST,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete the records of one tenant that a metadata filter matches: counted and shown first, deleted by id.

    It goes where the tenant's route leads, as an application does. A namespace that a job freezes is left alone.
    """
    names.build(creator, twin)
    expression = _parsed(filter_text)
    compile_filter(expression)  # before anything is asked
    tenant = Tenant(creator, twin)
    with fleet() as parts:
        act = FilteredDeletion(parts, index, tenant, expression, who())
        if not dry_run:
            act.settle()
        shown = act.look()
        if not as_json:
            _show(shown, index)
        if dry_run or not shown.matched:
            _end(shown, 0, [f"vecfleet audit {index}"] if not shown.matched else [_for_good()], as_json=as_json)
            return
        require_few(shown.matched, at_most)
        confirm_by_typing(creator if twin is None else twin, yes=yes)
        done = act.delete(shown)
        _end(done, act.owed(), [f"vecfleet audit {index}"], as_json=as_json)


def _for_good() -> str:
    return shlex.join(["vecfleet", *(word for word in typed.get() if word != "--dry-run")])


def _show(shown: Filtered, index: str) -> None:
    where = ", ".join(shown.namespaces)
    match = "matches" if shown.matched == 1 else "match"
    say(f"{counted(shown.matched, 'record', 'records')} of the tenant {match} in {where} of {index}")
    if shown.sample:
        more = ", …" if shown.matched > len(shown.sample) else ""
        say(f"ids: {', '.join(shown.sample)}{more}")


def _end(done: Filtered, owed: int, steps: list[str], *, as_json: bool) -> None:
    if as_json:
        ids = {"namespaces": list(done.namespaces), "sample": list(done.sample)}
        say_json({"matched": done.matched, "deleted": done.deleted, **ids, "owed": owed, "next_steps": steps})
        return
    say(f"{counted(done.deleted, 'record', 'records')} deleted", style="bold")
    if done.deleted < done.matched and done.deleted:
        say(f"{done.matched - done.deleted:,} changed or went meanwhile, and were left alone")
    if owed:
        say(f"the other side is owed {counted(owed, 'record', 'records')}: the same command, later, begins with that")
    say_next(steps)


def _parsed(text: str) -> dict[str, Any]:
    try:
        expression = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInput(
            f"--filter is no JSON: {error.msg}",
            next_step="""put it into single quotes: --filter '{"source_id": "doc-7"}'""",
        ) from error
    if not isinstance(expression, dict):
        raise BadInput("--filter is no object", next_step="""--filter '{"source_id": "doc-7"}'""")
    return expression
