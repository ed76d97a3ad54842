"""`up`, `down`, `dispatcher`, `migrate`: all parts of a fleet on this machine, and the job table's revisions."""

import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

from orchestrator import schema
from orchestrator.cli.output import Yes, confirm, err, say, say_next
from orchestrator.cli.session import fleet
from orchestrator.core.states import JOB_ENDED, JobState
from orchestrator.core.wording import being
from orchestrator.embedded import addresses
from orchestrator.embedded.background import up_in_background
from orchestrator.embedded.foreground import exports, run
from orchestrator.embedded.programs import PYTHON
from orchestrator.embedded.record import StackRecord, running
from orchestrator.embedded.stack import Stack, down
from orchestrator.ledger import jobs
from orchestrator.ledger.database import Database
from orchestrator.telemetry import logs, tracing
from vecfleet.errors import BadInput, NotFound, VecfleetError
from vecfleet.settings import JOIN, Settings

WORKERS = 2


def migrate() -> None:
    """Bring the job table to the newest revision. Safe to repeat. Stop the fleet's processes before, the page too.

    A process reads the revision when it starts. An older one that runs on keeps none of the newer rules.
    With OWNER_DATABASE_URL it connects as that role, and grants the role of DATABASE_URL only what the fleet needs.
    """
    settings = Settings.load()
    older = schema.upgrade_by(settings)
    say("the job table has the newest revision")
    if older:
        say("restart whatever still runs: workers, dispatchers, the page. Older processes keep none of the newer rules")
    if settings.owner_database_url is not None:
        say("the role of DATABASE_URL may use it, but change neither its schema nor its audit trail")
    say_next(["vecfleet doctor"])


def dispatcher() -> None:
    """Run the dispatcher: it keeps the fleet busy and jobs moving. A second one waits to take over."""
    from orchestrator.dispatcher import Dispatcher
    from orchestrator.ledger.audit import Seals
    from orchestrator.services import hook_calls, hooks_file, kept_vectors, notices
    from orchestrator.services.background import repeating
    from orchestrator.services.lost_commits import Remembered
    from orchestrator.telemetry.counters import Counters

    with fleet() as parts:
        if parts.settings.redis_url is None:
            raise BadInput("REDIS_URL is not set", next_step=JOIN)
        logs.configure(parts.settings)
        file = hooks_file.read(parts.settings)
        tracing.start(parts.settings, "dispatcher")
        redis_url = parts.settings.redis_url.get_secret_value()
        remembered = Remembered(redis_url, parts.settings.vecfleet_home)
        process = Dispatcher(
            parts.database,
            parts.celery,
            Counters(redis_url),
            remembered,
            Seals.of(parts.settings.audit_key),
            parts.settings.lease_seconds,
            partial(hooks_file.declare, file=file),
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: process.stop())
        err.print("the dispatcher runs; Ctrl-C stops it, and jobs go on when another starts")
        beside = kept_vectors.steps(parts)
        if file is not None:  # whether it leads or not
            with parts.database.begin() as connection:
                hooks_file.declare(connection, file)
            beside |= notices.steps(parts, file) | hook_calls.steps(parts, file)
        with repeating(beside):
            process.run()


def up(
    workers: Annotated[int, typer.Option(min=0, help="How many worker processes.")] = WORKERS,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it runs; `vecfleet down` stops it.")] = False,
    join: Annotated[
        bool, typer.Option("--print", help="Start nothing: print those lines, with passwords, for the running stack.")
    ] = False,
) -> None:
    """Run everything on this machine: start whatever DATABASE_URL, REDIS_URL and PINECONE_API_KEY do not name.

    Prints the lines with which another shell, or a worker on another machine, joins.
    """
    settings = Settings.load()
    if join:
        _tell_again(settings)
        return
    if running(settings.vecfleet_home) is None:  # otherwise the lock says that it is in use, and how to join it
        settings = addresses.without_own(settings, settings.vecfleet_home)
        for warning in (addresses.require_answering(settings), addresses.short_wait(settings)):
            if warning:
                err.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    if detach:
        command = [*PYTHON, "orchestrator", "up", "--workers", str(workers)]
        record = up_in_background(command, settings.vecfleet_home)
        typer.echo(exports(record.environment))
        _tell_addresses(record.environment)
        _tell_this_shell(record.environment)
        err.print("to end it: vecfleet down")
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


def _tell_this_shell(environment: Mapping[str, str]) -> None:
    """Say what this shell needs before it can ask the stack: lines printed to a terminal change no shell."""
    if all(os.environ.get(name) == value for name, value in environment.items()):
        err.print("next: vecfleet audit")
        return
    if stale := [name for name, value in environment.items() if os.environ.get(name, value) != value]:
        err.print(f"this shell has other values of {', '.join(stale)}, until it runs these lines", soft_wrap=True)
    if sys.stdout.isatty():
        err.print(f"next: {addresses.JOIN_IT} joins this shell, or any other; then vecfleet audit", soft_wrap=True)
    else:
        err.print(f"next: vecfleet audit, in a shell that ran these lines, as with {addresses.JOIN_IT}", soft_wrap=True)


def _tell_again(settings: Settings) -> None:
    record = running(settings.vecfleet_home)
    if record is None:
        raise NotFound(
            f"nothing that `vecfleet up` started runs from {settings.vecfleet_home}",
            next_step="`vecfleet up --detach`; or set VECFLEET_HOME to the folder of a stack that runs",
        )
    typer.echo(exports(record.environment))
    _tell_addresses(record.environment)
    err.print('next: eval "$(vecfleet up --print)" joins this shell; then vecfleet audit')


def _tell_addresses(environment: Mapping[str, str]) -> None:
    err.print(f"the page: {page_address(environment)}", soft_wrap=True)
    if "FLOWER_URL" in environment:
        account = f"user {environment['FLOWER_USER']}, password {environment['FLOWER_PASSWORD']}"
        err.print(f"Flower: {environment['FLOWER_URL']}, {account}", soft_wrap=True)


def page_address(environment: Mapping[str, str]) -> str:
    """Return the page's address with the operator's token after `#`: a browser does not send that part."""
    return f"{environment['WEB_URL']}/login#{environment['OPERATOR_TOKEN']}"


def _tell_how_to_join(environment: Mapping[str, str]) -> None:
    """Print lines with passwords to a terminal only: a log or journal is kept, and others may read it."""
    if not sys.stdout.isatty():
        err.print("everything runs; `vecfleet up --print` prints the lines, with passwords, with which a shell joins")
        return
    typer.echo(exports(environment))
    sys.stdout.flush()
    _tell_addresses(environment)
    err.print(f"next: {addresses.JOIN_IT} joins another shell; then vecfleet audit; Ctrl-C here stops it all")


def shut_down(
    erase: Annotated[
        bool, typer.Option("--erase", help="Erase the data of the private servers too; it says what stays.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Stop what `vecfleet up` started here, in whatever state it is.

    With --erase it asks first if jobs are live, because their records of what was copied are erased too.
    """
    settings = Settings.load()
    record = StackRecord.read(settings.vecfleet_home)
    if erase and record is not None and (live := _live_jobs(record)):
        say(f"live: {'; '.join(live)}", style="yellow")
        say("An erased job can neither continue nor go back, and no record says any more what it wrote where.")
        confirm("Erase all that is known about them?", yes=yes)
    ran_here = down(settings.vecfleet_home, erase=erase)
    say("everything that ran here is stopped" if ran_here else "nothing was running here")
    if erase:
        say("its data are erased")
        if kept := _kept(settings):
            say(f"kept, because you may still need it: {', '.join(kept)}")
    if record is not None and (gone := addresses.given_out(record)):
        again = "" if erase else "; `vecfleet up` from this folder uses the same ones again"
        say(f"a shell that joined it still has its addresses, which lead nowhere now{again}. This line unsets them:")
        say(f"unset {' '.join(gone)}")


def _live_jobs(record: StackRecord) -> list[str]:
    """Return the jobs that are not ended in the private Postgres of a stack; none if it is not ours, or away."""
    if "DATABASE_URL" not in addresses.given_out(record):
        return []
    database = Database(record.environment["DATABASE_URL"], pool_size=1)
    try:
        with database.begin() as connection:
            return [
                f"job {job.id} {being(job.state)}" for job in jobs.every(connection, frozenset(JobState) - JOB_ENDED)
            ]
    except (VecfleetError, DBAPIError):  # it is to be erased, whatever became of it
        return []
    finally:
        database.dispose()


def _kept(settings: Settings) -> list[str]:
    """Return what an erasure of the servers' data leaves: tokens, certificates of erasures, journals, plan files."""
    home, plans = settings.vecfleet_home, settings.vecfleet_root / "plans"
    there = sorted(home.iterdir()) if home.is_dir() else []
    return [str(path) for path in (*there, *([plans] if plans.is_dir() else []))]
