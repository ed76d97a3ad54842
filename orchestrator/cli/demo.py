"""`vecfleet demo`: the seeds' own case, from an audit to the report, on private servers that leave nothing behind.

It types the commands that a user would type. It asks no other server, whatever the environment says.
"""

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.commands import build
from orchestrator.cli.output import err, say
from orchestrator.cli.running import WORKERS, page_address
from orchestrator.cli.watching import INTERRUPTED
from orchestrator.embedded.foreground import endings_interrupt, exports
from orchestrator.embedded.programs import PYTHON
from orchestrator.embedded.stack import Stack, up_in_background
from vecfleet.errors import VecfleetError
from vecfleet.settings import Settings

INDEX = "digital-twin-brain"
CREATOR = "sainath.no.1"
# Settings that must not reach the demo from the environment or from .env: each one that may be left unset. Among them
# are all that name a server, a key or a token, except a model's address, which the demo does not use. `none` counts as
# not set, and wins over .env.
_NOT_OURS = {name.upper(): "none" for name, field in Settings.model_fields.items() if field.default is None}


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and print the addresses.")] = False,
) -> None:
    """Migrate the seeds' index on private servers: audit, plan, apply, verify, cut over, clean up, report."""
    outer = Settings.load().vecfleet_home
    home, made_outer = outer / "demo", not outer.exists()
    began = time.monotonic()
    with endings_interrupt(), _environment(_NOT_OURS | {"VECFLEET_HOME": str(home)}):
        say(
            "Starting a private Postgres and Redis, the emulator with the seeds' index, a dispatcher, 2 workers, the "
            "page, Flower"
        )
        if keep:
            command = [*PYTHON, "orchestrator", "up", "--workers", str(WORKERS)]
            environment = dict(up_in_background(command, home).environment)
            _migrate(home, environment)
            _tell_addresses(home, environment)
        else:
            stack = Stack(
                home,
                workers=WORKERS,
                dispatcher=True,
                web=True,
                flower=True,
                emulator=True,
                load="seeds",
                durable=False,
                settings=Settings.load(),
            )
            with stack:
                _migrate(home, stack.environment)
            if made_outer:
                outer.rmdir()
            say("\nEverything is stopped and erased again; `vecfleet demo --keep` leaves it running.")
    say(f"The demo took {time.monotonic() - began:.0f} s in all.")


def _migrate(home: Path, environment: dict[str, str]) -> None:
    plan = home / "plan.yaml"
    with _environment(environment):
        say(
            "The emulator's reads do not lag: FRESHNESS_WAIT_SECONDS, how long what was written may stay unseen, is "
            f"{environment['FRESHNESS_WAIT_SECONDS']} here; beside Pinecone it is 60."
        )
        try:
            _type("audit", INDEX)
            _type(
                *("plan", "creators", INDEX, "--creator", CREATOR, "--default", "twin", "--conflicts", "keep"),
                *("--soak-seconds", "0", "--exclusive", "--out", str(plan)),
            )
            say("\nThere is no backup of the emulator's index, so apply is told that none is wanted.")
            _type("apply", str(plan), "--no-backup", "--watch")
            _type("cutover", "1", "--percent", "100")
            _type("cleanup", "1", "--yes", "--watch")
            _type("report", "1")
        finally:
            plan.unlink(missing_ok=True)


def _type(*words: str) -> None:
    """Run a command of ours in this process; show it as a user would type it."""
    say(f"\n$ vecfleet {shlex.join(words)}", style="bold")
    code = build(words[0])(list(words), prog_name="vecfleet", standalone_mode=False)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise VecfleetError(
            f"`vecfleet {words[0]}` ended with exit code {code}",
            next_step="what it printed says why; `vecfleet demo` begins anew",
        )


def _tell_addresses(home: Path, environment: dict[str, str]) -> None:
    say(f"\nthe page  {page_address(environment)}")
    say(f"Flower    {environment['FLOWER_URL']}")
    say(f"          user {environment['FLOWER_USER']}, password {environment['FLOWER_PASSWORD']}")
    say(f"emulator  {environment['PINECONE_CONTROLLER_HOST']}")
    say("\nAnother shell joins with:")
    typer.echo(exports(environment | {"VECFLEET_HOME": str(home.absolute())}))
    err.print(
        f"next: vecfleet jobs; VECFLEET_HOME={shlex.quote(str(home))} vecfleet down --erase stops it", soft_wrap=True
    )


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
