"""The commands, by section, and the module of each. A module is loaded when its command begins its work."""

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator.cli import signatures
from orchestrator.cli.examples import epilog
from orchestrator.cli.misuse import GuessingGroup, PlainCommand
from vecfleet import __version__

PROGRAM = "vecfleet"
_HELP = "Move vectors between namespaces, prove that nothing was lost, and be able to go back."

# The sections of the help, in the order in which a person needs them: the words typed → module and function.
SECTIONS = {
    "Begin": {
        "demo": "demo:demo",
        "up": "running:up",
        "doctor": "looking:doctor",
        "down": "running:shut_down",
    },
    "Look and plan": {
        "audit": "looking:audit",
        "analyze": "looking:analyze_namespace",
        "check": "comparing:check",
        "plan creators": "planning:creators",
        "plan namespaces": "planning:namespaces",
        "plan index": "planning:index",
        "plan reembed": "reembedding:reembed",
        "plan documents": "to_documents:documents",
        "plan export": "between:export",
        "plan import": "between:import_",
        "plan stores": "between:stores",
        "plan tables": "between:tables",
        "plan reverse": "planning:reverse",
        "show": "looking:show",
        "backup create": "whole_indexes:create",
        "backup list": "whole_indexes:every",
        "backup restore": "whole_indexes:restore",
    },
    "Run a job": {
        "apply": "planning:apply",
        "jobs": "jobs:jobs",
        "status": "jobs:status",
        "verify": "steering:verify",
        "pass": "steering:another_pass",
        "cutover": "steering:cut_over",
        "cleanup": "steering:clean_up",
        "show-evidence": "looking:show_evidence",
        "report": "looking:report",
    },
    "Steer it, and go back": {
        "park list": "parking:park_list",
        "park accept": "parking:park_accept",
        "park undo": "parking:park_undo",
        "retry": "steering:retry",
        "pause": "steering:pause",
        "resume": "steering:resume",
        "set": "steering:set_lever",
        "comment": "steering:comment",
        "pace": "looking:pace",
        "reverse": "steering:reverse",
        "finish": "steering:finish",
        "cancel": "steering:cancel",
        "rollback": "steering:roll_back",
    },
    "Erase, and keep books": {
        "forget": "erasing:forget",
        "readmit": "erasing:readmit",
        "rehearse deletion": "erasing:deletion",
        "delete": "filtered:delete",
        "filling list": "fillings:every",
        "filling give-up": "fillings:give_up",
        "wipe": "whole_indexes:wipe",
        "decommission": "whole_indexes:decommission",
        "purge": "books:purge",
        "audit-log verify": "books:verify",
        "audit-log lock": "books:lock",
        "notices": "books:notices",
    },
    "Namespaces in Postgres": {
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
    },
    "The fleet's processes": {
        "migrate": "running:migrate",
        "dispatcher": "running:dispatcher",
        "worker": "processes:worker",
        "serve": "serving:serve",
        "token create": "serving:token_create",
        "token list": "serving:token_list",
        "token revoke": "serving:token_revoke",
        "flower": "processes:flower",
        "emulator": "processes:emulator",
        "certify": "certifying:certify",
    },
}
COMMANDS = {words: where for section in SECTIONS.values() for words, where in section.items()}
GROUPS = {
    "plan": "Make a plan file: which namespace becomes which, at what cost.",
    "backup": "Backups that the vector database takes of a whole index.",
    "park": "Parked records and batches, for a person to decide on.",
    "pg": "Namespaces in Postgres with pgvector (PGVECTOR_URL).",
    "token": "Tokens to sign in at the page, or to use the APIs.",
    "filling": "Conversions and imports by the service into an index, before a job begins there.",
    "rehearse": "Rehearse what must work before you need it.",
    "audit-log": "The record of what people did.",
}
# The sections of a plan's options; those of one recipe alone stand before them.
OPTIONS = {
    "Which namespaces, and where the plan goes": ("namespace", "skip", "out", "ids"),
    "Metadata": ("set_key", "drop", "rename_key", "map_file", "map_undo", "conflicts"),
    "Writers, and when": ("writers", "max_passes", "window", "zone", "check_every_write", "exclusive"),
    "What cannot go along as it is": ("collisions", "numbers"),
    "Proof": ("verify", "query_sample", "query_top_k", "query_overlap"),
    "Cut-over and clean-up": (
        *("cut_over", "dwell_seconds", "shadow_share", "bad_step", "soak_seconds", "clean_up", "leave_alias"),
    ),
    "A new index": ("cloud", "region", "tag", "deletion_protection", "read_capacity", "schema_from", "monthly_queries"),
    "Tenants": (
        *("creator", "ownership", "list_file", "twin_key", "default", "unowned", "review_namespace", "lookup_key"),
    ),
    "Options": ("as_json", "help"),
}
_WHOLE = 1_000  # characters: no sentence is as long, so none is cut short
# The emulator parses its own options.
_HANDS_ON: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
}


class InSections(GuessingGroup):
    """A group whose help lists the commands by section, each in its order."""

    def list_commands(self, ctx: Any) -> list[str]:
        there = super().list_commands(ctx)
        return [name for name in _first_words(COMMANDS) if name in there]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        longest = max(map(len, names))
        for title, section in SECTIONS.items():
            shown = [name for name in _first_words(section) if name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(longest), self.commands[name].get_short_help_str(_WHOLE)) for name in shown]
                )


class InOneList(TyperGroup):
    """A group of commands, each with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(_WHOLE)) for name in self.list_commands(ctx)]
            )


class OptionsInSections(PlainCommand):
    """A command whose help lists the options by section, each in its order."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        params = {param.name: param for param in self.get_params(ctx)}
        arguments = [name for name, param in params.items() if param.param_type_name == "argument"]
        sections = {title: [name for name in names if name in params] for title, names in OPTIONS.items()}
        own = [name for name in params if name not in {*arguments, *chain.from_iterable(sections.values())}]
        for title, names in {"Arguments": arguments, "Of this recipe alone": own, **sections}.items():
            records = [record for name in names if (record := params[name].get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _first_words(commands: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(words.partition(" ")[0] for words in commands))


def build(only: str | None = None) -> typer.Typer:
    """Build all commands, or those that begin with the words `only` if there are any."""
    chosen = {name: where for name, where in COMMANDS.items() if f"{name} ".startswith(f"{only} ")} or COMMANDS
    app = _without_commands()
    groups: dict[str, typer.Typer] = {}
    for words, where in chosen.items():
        group, _, name = words.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(cls=InOneList, help=GROUPS[group], no_args_is_help=True)
            app.add_typer(groups[group], name=group)
        settings = _HANDS_ON if words == "emulator" else {}
        kind = OptionsInSections if group == "plan" else PlainCommand
        (groups[group] if group else app).command(name, cls=kind, epilog=epilog(words), **settings)(
            signatures.command(where)
        )
    return app


def listing(group: str | None = None) -> typer.Typer:
    """List all first words, or the commands of a group, with the sentence of their help. Nothing here can be run.

    Loading every command takes seven times as long as reading a sentence of each out of its source.
    """
    app = _without_commands()
    if group is not None:
        app.add_typer(within := typer.Typer(cls=InOneList, help=GROUPS[group], no_args_is_help=True), name=group)
        for words, where in COMMANDS.items():
            if words.startswith(f"{group} "):
                within.command(words.removeprefix(f"{group} "), help=signatures.docstring(where))(_only_listed)
        return app
    for word in _first_words(COMMANDS):
        sentence = GROUPS[word] if word in GROUPS else signatures.docstring(COMMANDS[word])
        app.command(word, help=sentence)(_only_listed)
    return app


def _only_listed() -> None:
    raise AssertionError("whoever names a command gets that command, and no listing")


def _without_commands() -> typer.Typer:
    app = typer.Typer(
        name=PROGRAM,
        cls=InSections,
        help=_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_about)
    return app


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _about(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say which version this is.")
    ] = False,
) -> None: ...
