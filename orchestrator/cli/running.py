"""Commands that are processes: the parts of a fleet one by one, or all of them on this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator import logs, schema
from orchestrator.cli.output import err, say, say_next
from orchestrator.cli.session import fleet
from orchestrator.dispatcher import Dispatcher
from orchestrator.embedded.foreground import exports, run
from orchestrator.embedded.programs import PYTHON
from orchestrator.embedded.stack import Stack, down, up_in_background
from orchestrator.queue import QUEUES
from vecfleet.errors import BadInput
from vecfleet.settings import Settings

WORKERS = 2
# The emulator reads its options itself, its help among them.
EVERY_ARGUMENT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_FLOWER_SETTINGS = Path(__file__).parent.parent / "flower_settings.py"
_JOIN = "set it, or start the embedded stack with `vecfleet up` and paste the lines it prints"


def migrate() -> None:
    """Bring the job table to the newest revision. Safe to repeat."""
    settings = Settings.load()
    if settings.database_url is None:
        raise BadInput("DATABASE_URL is not set", next_step=_JOIN)
    schema.upgrade(settings.database_url.get_secret_value())
    say("the job table has the newest revision")
    say_next(["vecfleet doctor"])


def dispatcher() -> None:
    """Run the dispatcher: it keeps the fleet busy and jobs moving. A second one waits to take over."""
    with fleet() as parts:
        logs.configure(parts.settings.log_format)
        found = Dispatcher(parts.database, parts.celery)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: found.stop())
        err.print("the dispatcher runs; Ctrl-C stops it, and jobs go on when another starts")
        found.run()


def worker(
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Batches at once (default: WORKER_THREADS).")
    ] = None,
    queues: Annotated[str, typer.Option(help="Which queues it serves.")] = ",".join(QUEUES),
    task_events: Annotated[
        bool, typer.Option("--task-events", help="Report each task from the start; Flower asks for it within 5 s.")
    ] = False,
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], typer.Option()] = "INFO",
) -> None:
    """Run a worker. Start as many as you like, on as many machines."""
    settings = Settings.load()
    for variable, value in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)):
        if value is None:
            raise BadInput(f"{variable} is not set", next_step=_JOIN)
    unknown = set(queues.split(",")) - set(QUEUES)
    if unknown:
        raise BadInput(f"there is no queue {', '.join(sorted(unknown))}", next_step=f"there are {', '.join(QUEUES)}")
    count = threads or settings.worker_threads
    _become(
        *("celery", "-A", "workers.tasks", "worker", "--pool", "threads", "--concurrency", str(count)),
        *("--queues", queues, "--hostname", f"vecfleet-{os.getpid()}@%h", "--loglevel", log_level),
        *("--without-gossip", "--without-mingle"),
        *(["--task-events"] if task_events else []),
    )


def flower(port: Annotated[int | None, typer.Option(help="Default: FLOWER_PORT.")] = None) -> None:
    """Run Flower on this machine's own address, behind FLOWER_USER and FLOWER_PASSWORD."""
    if Settings.load().redis_url is None:
        raise BadInput("REDIS_URL is not set", next_step=_JOIN)
    chosen = [f"--port={port}"] if port else []
    _become("celery", "-A", "orchestrator.queue", "flower", f"--conf={_FLOWER_SETTINGS}", *chosen)


def _emulator_help(context: typer.Context, asked: bool) -> None:
    if asked:
        width = {**os.environ, "COLUMNS": "120"}
        told = subprocess.run([*PYTHON, "emulator", "--help"], env=width, capture_output=True, text=True, check=True)
        typer.echo(f"{context.get_help()}\n\n{told.stdout}")
        raise typer.Exit


def emulator(
    context: typer.Context,
    _: Annotated[bool, typer.Option("--help", is_eager=True, callback=_emulator_help, help="Show this.")] = False,
) -> None:
    """Run the Pinecone-compatible server for laptops and tests; its options are those of `python -m emulator`."""
    _become("emulator", *context.args)


def _become(module: str, *arguments: str) -> None:
    """Turn this process into that program: signals and exit codes are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*PYTHON, module, *arguments])


def up(
    workers: Annotated[int, typer.Option(min=0, help="How many worker processes.")] = WORKERS,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it runs; `vecfleet down` stops it.")] = False,
) -> None:
    """Run everything on this machine: what DATABASE_URL, REDIS_URL and PINECONE_API_KEY do not name is started here.

    Prints the lines by which any other shell joins, or a worker on another machine.
    """
    settings = Settings.load()
    if detach:
        command = [*PYTHON, "orchestrator", "up", "--workers", str(workers)]
        record = up_in_background(command, settings.vecfleet_home)
        typer.echo(exports(record.environment))
        err.print(f"the page: {page_address(record.environment)}", soft_wrap=True)
        err.print("next: vecfleet audit, once these lines are pasted; vecfleet down stops it all")
        return
    stack = Stack(
        settings.vecfleet_home,
        workers=workers,
        dispatcher=True,
        web=True,
        flower=True,
        emulator=True,
        load="seeds",
        settings=settings,
        tell=err.print,
    )
    run(stack, _tell_how_to_join)


def page_address(environment: Mapping[str, str]) -> str:
    """Where the page is, for who may sign in there: a browser does not send what follows the `#`."""
    return f"{environment['WEB_URL']}/login#{environment['OPERATOR_TOKEN']}"


def _tell_how_to_join(environment: Mapping[str, str]) -> None:
    typer.echo(exports(environment))
    sys.stdout.flush()
    err.print(f"the page: {page_address(environment)}", soft_wrap=True)
    err.print("next: paste these lines into another shell, then `vecfleet audit`; Ctrl-C here stops it all")


def shut_down(
    erase: Annotated[bool, typer.Option("--erase", help="Erase the data of the private servers too.")] = False,
) -> None:
    """Stop what `vecfleet up` started here, whatever became of it."""
    home = Settings.load().vecfleet_home
    found = down(home, erase=erase)
    say("everything that ran here is stopped" if found else "nothing was running here")
    if erase:
        say("its data are erased")
