"""Commands that become one process of a fleet: a worker, Flower, the emulator. They start often, and load little."""

import os
import subprocess
import sys
from typing import Annotated, Literal

import typer

from orchestrator.core.states import QUEUES
from orchestrator.embedded.programs import KEEPS_FREED_MEMORY, PYTHON
from vecfleet.errors import BadInput
from vecfleet.settings import JOIN, Settings


def worker(
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Batches at once (default: WORKER_THREADS).")
    ] = None,
    queues: Annotated[str, typer.Option(help="Queues to serve.")] = ",".join(QUEUES),
    task_events: Annotated[
        bool, typer.Option("--task-events", help="Report each task from the start; Flower asks for it within 5 s.")
    ] = False,
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None, typer.Option(help="Default: LOG_LEVEL.")
    ] = None,
) -> None:
    """Run a worker. Start as many as you like, on as many machines."""
    settings = Settings.load()
    for variable, value in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)):
        if value is None:
            raise BadInput(f"{variable} is not set", next_step=JOIN)
    unknown = set(queues.split(",")) - set(QUEUES)
    if unknown:
        raise BadInput(f"there is no queue {', '.join(sorted(unknown))}", next_step=f"there are {', '.join(QUEUES)}")
    count = threads or settings.worker_threads
    _become(
        *("workers", "--pool", "threads", "--concurrency", str(count)),
        *(
            "--queues",
            queues,
            "--hostname",
            f"vecfleet-{os.getpid()}@%h",
            "--loglevel",
            log_level or settings.log_level,
        ),
        *("--without-gossip", "--without-mingle"),
        *(["--task-events"] if task_events else []),
    )


def flower(port: Annotated[int | None, typer.Option(help="Default: FLOWER_PORT.")] = None) -> None:
    """Run Flower on this machine's own address, behind FLOWER_USER and FLOWER_PASSWORD."""
    if Settings.load().redis_url is None:
        raise BadInput("REDIS_URL is not set", next_step=JOIN)
    chosen = [f"--port={port}"] if port else []
    _become("celery", "-A", "orchestrator.queue", "flower", *chosen)


def _emulator_help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        width = {**os.environ, "COLUMNS": "120"}
        result = subprocess.run([*PYTHON, "emulator", "--help"], env=width, capture_output=True, text=True, check=True)
        typer.echo(f"{context.get_help()}\n\n{result.stdout}")
        raise typer.Exit


def emulator(
    context: typer.Context,
    _: Annotated[bool, typer.Option("--help", is_eager=True, callback=_emulator_help, help="Show this.")] = False,
) -> None:
    """Run the Pinecone-compatible server for laptops and tests; its options are those of `python -m emulator`."""
    _become("emulator", *context.args)


def _become(module: str, *arguments: str) -> None:
    """Turn this process into that program: it gets the signals and gives the exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [*PYTHON, module, *arguments], {**KEEPS_FREED_MEMORY, **os.environ})
