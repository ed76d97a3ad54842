"""The commands, and the one place where an error becomes a sentence and an exit code."""

import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer

from orchestrator.cli import (
    audit_log,
    backups,
    between,
    demo,
    erasing,
    exports,
    looking,
    pg,
    pg_documents,
    pg_moving,
    planning,
    reversing,
    running,
    serving,
    steering,
    whole_indexes,
)
from orchestrator.cli.output import err, say_error
from vecfleet.errors import VecfleetError
from vecfleet.settings import Settings

PROGRAM = "vecfleet"
_BUG = 70  # EX_SOFTWARE of sysexits.h

app = typer.Typer(
    name=PROGRAM,
    help="Move vectors between namespaces, prove that nothing was lost, and be able to go back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
plan = typer.Typer(help="Make a plan file: which namespace becomes which, at what cost.", no_args_is_help=True)
backup = typer.Typer(help="Backups that the vector database takes of a whole index.", no_args_is_help=True)
park = typer.Typer(help="What is set aside, for a person to decide.", no_args_is_help=True)
pg_commands = typer.Typer(help="Namespaces in Postgres with pgvector (PGVECTOR_URL).", no_args_is_help=True)
token = typer.Typer(help="Bearer tokens for the tenants' API.", no_args_is_help=True)
rehearsals = typer.Typer(help="Try what must work before it has to.", no_args_is_help=True)
audit_log_commands = typer.Typer(help="The record of what people did.", no_args_is_help=True)

app.command()(looking.doctor)
app.command()(looking.audit)
app.command("analyze")(looking.analyze_namespace)
app.add_typer(plan, name="plan")
plan.command()(planning.creators)
plan.command()(planning.index)
plan.command()(exports.export)
plan.command("import")(exports.import_)
plan.command()(between.stores)
plan.command()(between.tables)
plan.command()(reversing.reverse)
app.add_typer(backup, name="backup")
backup.command()(backups.create)
backup.command("list")(backups.every)
backup.command()(backups.restore)
app.command()(looking.show)
app.command()(planning.apply)
app.command()(looking.jobs)
app.command()(looking.status)
app.command()(steering.retry)
app.command()(steering.verify)
app.command("pass")(steering.another_pass)
app.command("cutover")(steering.cut_over)
app.command()(steering.reverse)
app.command("cleanup")(steering.clean_up)
app.command("rollback")(steering.roll_back)
app.command()(steering.pause)
app.command()(steering.resume)
app.command()(steering.cancel)
app.command("set")(steering.set_lever)
app.add_typer(park, name="park")
park.command("list")(steering.park_list)
park.command("accept")(steering.park_accept)
app.command()(looking.report)
app.command()(erasing.forget)
app.command()(erasing.readmit)
app.command()(whole_indexes.wipe)
app.command()(whole_indexes.decommission)
app.add_typer(rehearsals, name="rehearse")
rehearsals.command()(erasing.deletion)
app.add_typer(pg_commands, name="pg")
pg_commands.command()(pg.setup)
pg_commands.command()(pg_documents.process)
pg_commands.command()(pg_documents.search)
pg_commands.command()(pg.namespaces)
pg_commands.command()(pg.stats)
pg_commands.command()(pg.create)
pg_commands.command()(pg.drop)
pg_commands.command()(pg_moving.check)
pg_commands.command()(pg_moving.legacy)
pg_commands.command()(pg_moving.copy)
pg_commands.command()(pg_moving.move)
pg_commands.command()(pg.collections)
pg_commands.command("collection-stats")(pg.collection_stats)
pg_commands.command()(pg.empty)
app.add_typer(audit_log_commands, name="audit-log")
audit_log_commands.command()(audit_log.verify)
app.command()(running.migrate)
app.command()(running.dispatcher)
app.command()(running.worker)
app.command()(running.flower)
app.command()(serving.serve)
app.add_typer(token, name="token")
token.command("create")(serving.token_create)
app.command(context_settings=running.EVERY_ARGUMENT)(running.emulator)
app.command()(running.up)
app.command("down")(running.shut_down)
app.command("demo")(demo.demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Returns its exit code: 0 only when what was asked is true."""
    try:
        app(arguments, prog_name=PROGRAM)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except VecfleetError as error:
        say_error(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the edge: people get a sentence, the log the traceback
        err.print(f"an unexpected {type(error).__name__} ended this: a fault of vecfleet, not yours", style="red")
        err.print(f"next: look at, and send, the traceback in {_log(arguments)}", soft_wrap=True)
        return _BUG
    return 0


def _log(arguments: Sequence[str] | None) -> Path:
    try:
        place = Settings.load().vecfleet_home / "logs" / "cli.log"
        place.parent.mkdir(parents=True, exist_ok=True)
    except (VecfleetError, OSError):
        place = Path(tempfile.gettempdir()) / "vecfleet-cli.log"
    command = " ".join(sys.argv[1:] if arguments is None else arguments)
    with place.open("a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {PROGRAM} {command}\n{traceback.format_exc()}\n")
    return place.absolute()
