"""`plan reverse`: the way back after clean-up, as a plan like any other."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from migrations.estimating import Prices
from migrations.reversing import plan_reverse
from orchestrator.cli.output import JobId, Json
from orchestrator.cli.planning import write
from orchestrator.cli.session import fleet
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs, moves
from vecfleet.errors import Refused


def reverse(
    job: JobId,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The plan file (default: plans/ under VECFLEET_ROOT).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan that a cleaned-up job's records go back to where they came from, as they were. Writes the plan file only."""
    with fleet() as parts:
        with parts.database.begin() as connection:
            row = jobs.get(connection, job)
            namesakes = jobs.namesakes(connection, row)
            targets = [target.namespace for target in moves.targets_of_job(connection, job)]
        if row.state is JobState.ROLLED_BACK:
            raise Refused(
                f"job {job} was rolled back: nothing of it is left to take back",
                next_step="`vecfleet jobs` lists the others",
            )
        if namesakes:
            other, name = namesakes[0]
            raise Refused(
                f"job {other} took a namespace {name!r} of another index to the same targets: "
                "their records cannot be told apart, and would go to the wrong index",
                next_step=f"roll job {other} back first if it still can be: `vecfleet status {other}`",
            )
        store = parts.store_named(row.plan.target.store)
        plan = plan_reverse(store, row.plan, targets, prices=Prices.of(parts.settings), now=datetime.now(UTC))
        write(parts, plan, out, as_json=as_json)
