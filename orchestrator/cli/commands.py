"""Which commands there are, and where each is found. Only the module of the command that was typed is loaded."""

from importlib import import_module
from typing import Annotated, Any

import typer

from orchestrator.cli.examples import epilog
from vecfleet import __version__

PROGRAM = "vecfleet"
_HELP = "Move vectors between namespaces, prove that nothing was lost, and be able to go back."

# In the order of the help: what is typed → module and function.
COMMANDS = {
    "doctor": "looking:doctor",
    "audit": "auditing:audit",
    "analyze": "auditing:analyze_namespace",
    "plan creators": "planning:creators",
    "plan index": "planning:index",
    "plan export": "exports:export",
    "plan import": "exports:import_",
    "plan stores": "between:stores",
    "plan tables": "between:tables",
    "plan reverse": "reversing:reverse",
    "backup create": "backups:create",
    "backup list": "backups:every",
    "backup restore": "backups:restore",
    "show": "looking:show",
    "apply": "planning:apply",
    "jobs": "jobs:jobs",
    "status": "jobs:status",
    "retry": "steering:retry",
    "verify": "steering:verify",
    "pass": "steering:another_pass",
    "cutover": "steering:cut_over",
    "reverse": "steering:reverse",
    "cleanup": "steering:clean_up",
    "rollback": "steering:roll_back",
    "pause": "steering:pause",
    "resume": "steering:resume",
    "cancel": "steering:cancel",
    "set": "steering:set_lever",
    "pace": "pacing:pace",
    "park list": "steering:park_list",
    "park accept": "steering:park_accept",
    "report": "looking:report",
    "purge": "purging:purge",
    "forget": "erasing:forget",
    "readmit": "erasing:readmit",
    "wipe": "whole_indexes:wipe",
    "decommission": "whole_indexes:decommission",
    "rehearse deletion": "erasing:deletion",
    "pg setup": "pg:setup",
    "pg process": "pg_documents:process",
    "pg search": "pg_documents:search",
    "pg namespaces": "pg:namespaces",
    "pg stats": "pg:stats",
    "pg create": "pg:create",
    "pg drop": "pg:drop",
    "pg check": "pg_moving:check",
    "pg legacy": "pg_moving:legacy",
    "pg copy": "pg_moving:copy",
    "pg move": "pg_moving:move",
    "pg collections": "pg:collections",
    "pg collection-stats": "pg:collection_stats",
    "pg empty": "pg:empty",
    "audit-log verify": "audit_log:verify",
    "migrate": "running:migrate",
    "dispatcher": "running:dispatcher",
    "worker": "processes:worker",
    "flower": "processes:flower",
    "serve": "serving:serve",
    "token create": "serving:token_create",
    "emulator": "processes:emulator",
    "up": "running:up",
    "down": "running:shut_down",
    "demo": "demo:demo",
}
GROUPS = {
    "plan": "Make a plan file: which namespace becomes which, at what cost.",
    "backup": "Backups that the vector database takes of a whole index.",
    "park": "What is set aside, for a person to decide.",
    "pg": "Namespaces in Postgres with pgvector (PGVECTOR_URL).",
    "token": "Bearer tokens for the tenants' API.",
    "rehearse": "Try what must work before it has to.",
    "audit-log": "The record of what people did.",
}
# The emulator understands its own options.
_HANDS_ON: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
}


def build(only: str | None = None) -> typer.Typer:
    """All commands; or those that begin with the word `only`, if any do."""
    chosen = {name: where for name, where in COMMANDS.items() if name.partition(" ")[0] == only} or COMMANDS
    app = typer.Typer(
        name=PROGRAM, help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(_about)
    groups: dict[str, typer.Typer] = {}
    for words, where in chosen.items():
        group, _, name = words.rpartition(" ")
        module, _, function = where.partition(":")
        if group and group not in groups:
            groups[group] = typer.Typer(help=GROUPS[group], no_args_is_help=True)
            app.add_typer(groups[group], name=group)
        settings = _HANDS_ON if words == "emulator" else {}
        command = getattr(import_module(f"orchestrator.cli.{module}"), function)
        (groups[group] if group else app).command(name, epilog=epilog(words), **settings)(command)
    return app


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _about(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say which version this is.")
    ] = False,
) -> None: ...
