"""`certify`: ask a real account whether the service is what we take it for. Needs neither Postgres nor Redis."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from migrations.certifying import asking, converting, report, scratch
from migrations.certifying.asking import QUESTIONS, Answered
from migrations.certifying.metering import Meter
from migrations.certifying.runs import CLEAN, FOLDER, Run, Runs
from migrations.estimating import Prices
from orchestrator.bootstrap import Fleet
from orchestrator.cli.output import Json, err, say, say_json, say_next
from orchestrator.cli.session import fleet
from orchestrator.core.wording import counted
from orchestrator.ledger.audit import Seals, with_key
from vecfleet.connections import full_name, located
from vecfleet.errors import BadInput, Refused, Unreachable, VecfleetError, in_a_sentence
from vecfleet.stores.pinecone.clients import api_key

DIFFERENT, INCOMPLETE = 1, Unreachable.exit_code
_CONVERTS = (
    f"{converting.UNPRICED} is among them, which the budget cannot hold, because its price is in no price table; it "
    f"begins {converting.SNAPSHOT_MISSES_S / 60:.0f} minutes after they were written, and is waited for up to "
    f"{converting.PATIENCE_S / 60:.0f} more"
)
_PAGE = "docs/certify.md says what rests on each question"


def certify(
    index_prefix: Annotated[
        str | None, typer.Option(metavar="P", help="Prefix of each scratch index's name; pinecone@NAME:P elsewhere.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="DOLLARS", help="Make no call that might cost more than this.")
    ] = None,
    convert: Annotated[
        bool,
        typer.Option(
            "--convert", help="Also have the service convert 3 records: no price is known, so no budget applies."
        ),
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Delete the scratch indexes that a killed run left behind.")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check the seal of a report; ask nothing.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask Pinecone whether it behaves as we expect, in scratch indexes that are deleted again.

    Ends with 0 if each answer is the emulator's, 1 if one is not, 4 if a question has no answer.
    """
    with fleet() as parts:
        if verify is not None:
            _verify(parts, verify, as_json=as_json)
        elif clean:
            _clean(parts, index_prefix, as_json=as_json)
        elif index_prefix is None or budget is None:
            raise BadInput(
                "--index-prefix and --budget are both needed",
                next_step="vecfleet certify --index-prefix vecfleet-certify --budget 0.50",
            )
        else:
            _certify(parts, index_prefix, budget, convert=convert, as_json=as_json)


def _certify(parts: Fleet, index_prefix: str, budget: float, *, convert: bool, as_json: bool) -> None:
    account, prefix = located(index_prefix)
    store = parts.accounts.store(account)
    api_key(store.settings)  # raises BadInput without one
    runs, meter = Runs(parts.settings.vecfleet_home), Meter(Prices.of(parts.settings), budget)
    asking.require_budget(meter)
    scratch.require_unused(store, prefix, runs)
    run = Run.new(store, prefix)
    questions = (*QUESTIONS, *converting.QUESTIONS) if convert else QUESTIONS
    if not as_json:
        say(f"{len(questions)} questions to {run.address}, in scratch indexes called {prefix}-{run.number}-…")
        if convert:
            say(_CONVERTS)
    with err.status("") as status:

        def tell(answered: Answered) -> None:
            status.update(f"{answered.question.id} · ${meter.dollars:.4f}")

        answers = asking.ask_all(store, run, runs, meter, tell, questions)
    unasked = () if convert else [Answered(question, None, converting.NOT_ASKED) for question in converting.QUESTIONS]
    found = report.document(run, answers, meter, unasked)
    seals = Seals.of(parts.settings.audit_key)
    path = report.write(parts.settings.vecfleet_home / FOLDER / "reports", found, seals.make)
    left = runs.has(run)
    _say(found, path, left=left, sealed_with_key=bool(seals), as_json=as_json)
    if found["differences"]:
        raise typer.Exit(DIFFERENT)
    if found["unanswered"]:
        raise typer.Exit(INCOMPLETE)


def _say(found: dict[str, Any], path: Path, *, left: bool, sealed_with_key: bool, as_json: bool) -> None:
    steps = [*([CLEAN] if left else []), *_next_steps(found, path)]
    if as_json:
        say_json({**found, "file": str(path), "next_steps": steps})
        return
    for difference in found["differences"]:
        say(f"* {difference['id']}: {difference['question']}")
        say(f"    the emulator: {difference['emulator']}")
        say(f"    the service:  {difference['service']}")
    for unanswered in found["unanswered"]:
        say(f"! {unanswered['id']}: {unanswered['why']}")
    for unasked in found["unasked"]:
        say(f"- {unasked['id']}: {unasked['why']}")
    say(
        f"{len(found['agreements'])} answered as the emulator answers · {len(found['differences'])} otherwise · "
        f"{len(found['unanswered'])} not answered"
    )
    say(
        f"cost: ${found['spent_dollars']:.4f} of ${found['budget_dollars']:.2f}, for "
        f"{counted(round(found['read_units']), 'read unit', 'read units')} and "
        f"{counted(round(found['write_units']), 'write unit', 'write units')} in "
        f"{counted(found['requests'], 'request', 'requests')}"
    )
    for what in found["unpriced"]:
        say(f"not counted: {what}, whose price is in no price table")
    key = "sealed with AUDIT_KEY" if sealed_with_key else "sealed without a key: AUDIT_KEY is not set"
    say(f"report: {path.with_suffix('.md')}, and {path.name} beside it, {key}")
    if left:
        say("a scratch index could not be deleted, or may still be created", style="red")
    say_next(steps)


def _next_steps(found: dict[str, Any], path: Path) -> list[str]:
    switches = [entry for entry in found["differences"] if "switch" in entry]
    steps = [
        f"vecfleet emulator --contested {entry['switch']}=…  # may answer as the service does" for entry in switches
    ]
    if found["differences"]:
        steps.append(_PAGE)
    if found["unanswered"]:
        steps.append("the same command again, once nothing keeps those answers back")
    return [*steps, f"vecfleet certify --verify {path}"]


def _clean(parts: Fleet, index_prefix: str | None, *, as_json: bool) -> None:
    account, prefix = located(index_prefix) if index_prefix is not None else (None, None)
    runs = Runs(parts.settings.vecfleet_home)
    removed: list[str] = []
    kept: list[VecfleetError] = []
    for run in runs.every(prefix):
        if account in (None, run.account):
            try:
                names = scratch.clean(parts.accounts.store(run.account), run, runs)
                removed += [full_name(run.account, name) for name in names]
            except VecfleetError as error:  # which is no reason to leave what other runs left
                kept.append(error)
    known = "no run is known that left another"
    if kept:
        known = counted(len(kept), "run stays on record", "runs stay on record")
    if as_json:
        say_json({"deleted": removed})
    else:
        for name in removed:
            say(f"deleted {name}")
        say(f"{counted(len(removed), 'scratch index', 'scratch indexes')} deleted; {known}")
    _raise(kept)


def _raise(errors: Sequence[VecfleetError]) -> None:
    """Raise the error; of several, one that holds them all."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Refused(
            "what these runs left could not be deleted",
            code="runs-left",
            objections=[error.message for error in errors],
            next_step="; ".join(dict.fromkeys(in_a_sentence(error.next_step) for error in errors if error.next_step)),
        )


def _verify(parts: Fleet, path: Path, *, as_json: bool) -> None:
    found, seal = report.read(path)
    seals = Seals.of(parts.settings.audit_key)
    objection = seals.objection(seal, report.text_of(found))
    if objection is not None:
        raise Refused(
            f"the seal of {path} {objection}",
            code="seal-broken",
            next_step="set the AUDIT_KEY under which it was made; if that is set, the report was changed",
        )
    keyed = with_key(seal)
    if as_json:
        say_json({"valid": True, "with_key": keyed, "differences": [entry["id"] for entry in found["differences"]]})
        return
    bare = "" if keyed else "; it was made without a key, so anybody can have made it"
    say(f"the seal of {path} is that of its content{bare}")
