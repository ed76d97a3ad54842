"""`vecfleet demo`: a job from an audit to the report, on private servers that leave nothing behind.

It regroups the seeds' index or, as `vecfleet demo reembed`, embeds it anew by the local model.

It types the commands that a user would type. It asks no other server, whatever the environment says.
"""

import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from migrations.survey import Surveyor
from orchestrator.cli.commands import build
from orchestrator.cli.output import err, say, say_error, say_next, typed
from orchestrator.cli.running import WORKERS, page_address
from orchestrator.cli.session import fleet
from orchestrator.cli.watching import INTERRUPTED, NotReached
from orchestrator.core.wording import duration
from orchestrator.embedded.background import up_in_background
from orchestrator.embedded.foreground import endings_interrupt, exports
from orchestrator.embedded.process import POLL_S
from orchestrator.embedded.programs import PYTHON, START_S
from orchestrator.embedded.stack import Stack
from orchestrator.ledger import leadership
from vecfleet.embedders import LOCAL_MODEL
from vecfleet.errors import VecfleetError
from vecfleet.settings import Settings

INDEX = "digital-twin-brain"
EMBEDDED = "digital-twin-wordllama"
# Of each of these namespaces, the largest, so many sentences are asked for.
ASKED_NAMESPACES, ASKED_SENTENCES = 4, 5
CREATOR = "sainath.no.1"
# Settings that must not reach the demo from the environment or from .env: each one that may be left unset. Among them
# are all that name a server, a key or a token, except a model's address, which the demo does not use. `none` counts as
# not set, and wins over .env.
_NOT_OURS = {name.upper(): "none" for name, field in Settings.model_fields.items() if field.default is None}


class Case(StrEnum):
    REGROUP = "regroup"
    REEMBED = "reembed"


def demo(
    case: Annotated[
        Case, typer.Argument(help="Give every namespace its tenant's name, or embed the index with another model.")
    ] = Case.REGROUP,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and print the addresses.")] = False,
) -> None:
    """Move the seeds' index on private servers: audit, plan, apply, verify, cut over, clean up, report."""
    migrate = _regroup if case is Case.REGROUP else _reembed
    outer = Settings.load().vecfleet_home
    home, made_outer = outer / "demo", not outer.exists()
    began = time.monotonic()
    with endings_interrupt(), _environment(_NOT_OURS | {"VECFLEET_HOME": str(home), "VECFLEET_ROOT": str(home)}):
        looks = keep or case is Case.REGROUP  # what nobody will look at costs seconds to start
        say(
            "Starting a private Postgres and Redis, the emulator with the seeds' index, a dispatcher, 2 workers"
            + (", the page, Flower" if looks else "")
        )
        if keep:
            command = [*PYTHON, "orchestrator", "up", "--workers", str(WORKERS)]
            environment = dict(up_in_background(command, home).environment)
            migrate(home, environment, lambda: None)
            _tell_addresses(home, environment)
        else:
            stack = Stack(
                home,
                workers=WORKERS,
                dispatcher=True,
                web=looks,
                flower=looks,
                emulator=True,
                load="seeds",
                durable=False,
                settings=Settings.load(),
            )
            stack.begin()
            try:
                migrate(home, stack.environment, stack.launch_looks)
                stack.complete()
            finally:
                stack.stop()
            if made_outer:
                outer.rmdir()
            say("\nEverything is stopped and erased again; `vecfleet demo --keep` leaves it running.")
    say(f"The demo took {duration(time.monotonic() - began)} in all.")
    if not keep:
        say_next(["vecfleet up --detach"])


@contextmanager
def _files(home: Path, environment: dict[str, str], *names: str) -> Iterator[list[Path]]:
    """Give the paths of files of the demo, which are gone when it is over."""
    files = [home / name for name in names]
    with _environment(environment):
        say(
            "The emulator's reads do not lag: FRESHNESS_WAIT_SECONDS, how long a write may stay unseen, is "
            f"{environment['FRESHNESS_WAIT_SECONDS']} here; with Pinecone it is 60."
        )
        try:
            yield files
        finally:
            for file in files:
                file.unlink(missing_ok=True)


def _wait_for_dispatcher() -> None:
    """Return once a dispatcher leads, because a job that is applied before says that none is running.

    If none leads after START_S, return too: the job then says so, and waits.
    """
    until = time.monotonic() + START_S
    with fleet() as parts:
        while time.monotonic() < until:
            with parts.database.begin() as connection:
                if leadership.seconds_left(connection) is not None:
                    return
            time.sleep(POLL_S)


def _regroup(home: Path, environment: dict[str, str], launch_looks: Callable[[], object]) -> None:
    with _files(home, environment, "plan.yaml") as [plan]:
        _type("audit", INDEX)
        _type(
            *("plan", "creators", INDEX, "--creator", CREATOR, "--default", "twin", "--conflicts", "keep"),
            *("--soak-seconds", "0", "--exclusive", "--out", str(plan)),
        )
        say("\nThe emulator's index needs no backup, so apply runs with --no-backup.")
        _wait_for_dispatcher()
        launch_looks()  # nothing of the job needs the page and Flower, and the job rests soon, for reads to be fresh
        _type("apply", str(plan), "--no-backup", "--watch")
        _type("cutover", "1", "--percent", "100")
        _type("cleanup", "1", "--yes", "--watch")
        _type("report", "1")


def _reembed(home: Path, environment: dict[str, str], launch_looks: Callable[[], object]) -> None:
    with _files(home, environment, "plan.yaml", "questions.jsonl") as [plan, questions]:
        _type("audit", INDEX)
        asked = _ask_for_sentences(questions)
        say(f"\n{questions} holds {asked} questions: sentences, each with the records that hold it.")
        _type(
            *("plan", "reembed", INDEX, EMBEDDED, "--model", LOCAL_MODEL, "--text-key", "chunk_text"),
            *("--questions", questions.name),
            *("--soak-seconds", "0", "--exclusive", "--out", str(plan)),
        )
        _wait_for_dispatcher()
        launch_looks()
        _type("apply", str(plan), "--no-backup", "--watch", may_rest=True)
        say("\nRecords without a text wait for a decision: they may stay behind.")
        _type("park", "list", "1", "--limit", "3")
        _type("park", "accept", "1", "--all", "--yes")
        _type("status", "1", "--watch")
        _type("cutover", "1", "--percent", "100")
        _type("cleanup", "1", "--yes", "--watch")
        _type("report", "1")


def _ask_for_sentences(file: Path) -> int:
    """Write questions about the largest namespaces: sentences of their texts. Return how many."""
    lines = []
    with fleet() as parts:
        surveyor = Surveyor(parts.store)
        reader = surveyor.reader(surveyor.describe(INDEX))
        largest = sorted(reader.index.namespaces(), key=lambda held: -held.count)[:ASKED_NAMESPACES]
        for namespace in largest:
            holders: dict[str, list[str]] = {}
            for record in reader.records(namespace.name, reader.ids(namespace.name)):
                for sentence in re.findall(r"[^.?!]+[.?!]", str(record.metadata.get("chunk_text", ""))):
                    holders.setdefault(sentence.strip(), []).append(record.id)
            for sentence in sorted(holders, key=lambda said: -len(holders[said]))[:ASKED_SENTENCES]:
                ids = holders[sentence]
                lines.append({"question": sentence, "namespace": namespace.name, "relevant": ids, "like": ids[0]})
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return len(lines)


def _type(*words: str, may_rest: bool = False) -> None:
    """Run a command of ours in this process; show it as a user would type it. `may_rest`: a person decides then."""
    say(f"\n$ vecfleet {shlex.join(words)}", style="bold")
    typed.set(words)
    try:
        code = build(words[0])(list(words), prog_name="vecfleet", standalone_mode=False)
    except NotReached as error:
        if not may_rest:
            raise
        say_error(error, as_json=False)
        return
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise VecfleetError(
            f"`vecfleet {words[0]}` ended with exit code {code}",
            next_step="its output says why; `vecfleet demo` starts again",
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
