"""`filling list` and `filling give-up`: what the service fills before a job begins there."""

from typing import Annotated

import typer

from orchestrator.cli.output import Json, Yes, confirm_by_typing, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet, who
from orchestrator.ledger import index_acts
from orchestrator.services import fillings


def every(as_json: Json = False) -> None:
    """List what the service converts or imports into an index before a job begins there. Ends those that are over."""
    with fleet() as parts:
        fillings.settle(parts.database, parts.accounts)
        with parts.database.begin() as connection:
            found = index_acts.fillings(connection)
    stuck = [filling.index for filling in found if filling.stuck is not None and not filling.is_given_up]
    steps = [f"vecfleet filling give-up {index}" for index in stuck] or ["vecfleet jobs"]
    if as_json:
        say_json({"fillings": [filling.to_json() for filling in found], "next_steps": steps})
        return
    if found:
        say_table(
            ("index", "filled from", "by", "since", "standing"),
            (
                (
                    filling.index,
                    filling.filled_from or "files",
                    filling.who,
                    f"{filling.begun_at:%Y-%m-%d %H:%M}",
                    filling.standing,
                )
                for filling in found
            ),
        )
    else:
        say("the service fills no index before a job begins there")
    say_next(steps)


def give_up(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="As `filling list` names it.")],
    yes: Yes = False,
) -> None:
    """Give up a filling if nobody can know whether it is over: certificates name its index instead of waiting."""
    with fleet() as parts:
        filling = fillings.to_give_up(parts, index)
        say(f"The service {filling.doing}, as {filling.who} asked at {filling.begun_at:%Y-%m-%d %H:%M} UTC. Nobody can")
        say(f"tell whether that is over: {filling.stuck}")
        say(
            "Until somebody can, no erasure gets a certificate. Once you give it up, each certificate "
            "says that this index may hold, or still get, records of the tenant. Existing certificates do not change."
        )
        confirm_by_typing(index, yes=yes)
        fillings.give_up(parts, index, who())
    say(f"{index} is given up; repeat the erasures that have no certificate")
    say_next(["vecfleet filling list"])
