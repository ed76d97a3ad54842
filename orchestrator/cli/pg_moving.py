"""`vecfleet pg check`, `legacy`, `copy`, `move`: namespaces inside one database, each in one transaction."""

from typing import Annotated, Any

import typer

from orchestrator.cli.output import Json, confirm, say, say_json, say_next
from orchestrator.cli.pg import DryRun, Force, database, log_file, noted
from orchestrator.core.wording import counted, elapsed
from vecfleet.errors import Refused
from vecfleet.names import meant
from vecfleet.pgvector import EmbeddingSchema, NamespaceMigration
from vecfleet.pgvector.indexes import Method
from vecfleet.pgvector.naming import LEGACY_TABLE

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A namespace; `embeddings`, the old table; or the table of a backup.",
    ),
]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="A namespace that does not exist yet.")]
Digest = Annotated[
    bool, typer.Option("--digest/--no-digest", help="Compare the content of both, or only the number of rows.")
]
Index = Annotated[
    Method | None, typer.Option("--index", help="How the target's vector index is built (default: as the source's).")
]


def check(as_json: Json = False) -> None:
    """Show whether the table from before namespaces still needs to be migrated, and which backups moves left."""
    with database() as (connection, _):
        result = NamespaceMigration(connection.database_url, database=connection).check()
    if as_json:
        say_json(result)
        return
    if result["legacy_table_exists"]:
        say(f"the table {LEGACY_TABLE} is there, with {counted(result['legacy_row_count'], 'row', 'rows')}")
    else:
        say(f"there is no table {LEGACY_TABLE}")
    say(f"the namespace default is {'there' if result['default_namespace_exists'] else 'not there'}")
    say("a migration is needed" if result["migration_needed"] else "no migration is needed")
    for backup in result["backups"]:
        say(
            f"backup: {backup['table_name']}: {backup['backup_of']} became {backup['moved_to']} at {backup['moved_at']}"
        )
    steps = [f"vecfleet pg copy {backup['table_name']} NAMESPACE --dry-run" for backup in result["backups"][-1:]]
    say_next(["vecfleet pg legacy --dry-run" if result["migration_needed"] else "vecfleet pg namespaces", *steps])


def legacy(
    to: Annotated[str, typer.Option("--to", metavar="NAMESPACE", help="What the old table becomes.")] = "default",
    digest: Digest = True,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Move the table `embeddings` from before namespaces into one; it stays as a backup."""
    _migrate(LEGACY_TABLE, to, "move", digest, None, dry_run=dry_run, force=force, as_json=as_json)


def copy(
    source: Source,
    target: Target,
    digest: Digest = True,
    index: Index = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Copy a namespace to a new one in one transaction, proven before it is committed. Writers need not stop."""
    _migrate(source, target, "copy", digest, index, dry_run=dry_run, force=force, as_json=as_json)


def move(
    source: Source,
    target: Target,
    digest: Digest = True,
    index: Index = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Move a namespace to a new one: as a copy, with writers held off, and the source renamed as a backup."""
    _migrate(source, target, "move", digest, index, dry_run=dry_run, force=force, as_json=as_json)


def _migrate(
    source: str,
    target: str,
    mode: str,
    digest: bool,
    index: Method | None,
    *,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    with database() as (connection, settings):
        migration = NamespaceMigration(connection.database_url, database=connection)
        preview = migration.preview(source, target, mode)
        against = _against(preview, source, EmbeddingSchema(connection.database_url, database=connection))
        if not as_json:
            _say_preview(preview)
        if dry_run:
            _end_dry_run(preview, against, mode, source, target, as_json=as_json)
            return
        if against:
            raise Refused(
                "this does not hold: " + "; ".join(against),
                code="check-failed",
                next_step="`vecfleet pg namespaces` lists them",
                objections=tuple(against),
            )
        confirm(f"{mode.capitalize()} {counted(preview['row_count'], 'row', 'rows')}?", yes=force)
        facts = {key: preview[key] for key in ("source_table", "target_table", "mode")}
        with noted(settings, mode, **facts) as outcome:
            result = migration.run(
                source, target, mode, digest=digest, method=index, tell=(lambda _: None) if as_json else _say_step
            )
            outcome |= {key: result[key] for key in ("rows_migrated", "content_digest", "source_action")}
        if as_json:
            say_json({**result, "log_file": str(log_file(settings))})
            return
        say(f"migrated {counted(result['rows_migrated'], 'row', 'rows')} in {elapsed(result['duration_seconds'])}")
        say(f"  content: {'equal, digest ' + result['content_digest'] if digest else 'not compared, as you asked'}")
        say(f"  source: {result['source_action']}")
        say(f"  vector index: {'built' if result['vector_index_exists'] else 'none'}")
        for warning in result["warnings"]:
            say(f"  note: {warning}")
        say(f"  log: {log_file(settings)}")
        say_next([f"vecfleet pg stats {target}"])


def _against(preview: dict[str, Any], source: str, schema: EmbeddingSchema) -> list[str]:
    """Return what does not hold. Of a source that is not there, only that, with the names nearest to it."""
    against = [sentence for sentence, holds in preview["checks"].items() if not holds]
    missing = f"the source {preview['source_table']} exists"
    if missing not in against or source == LEGACY_TABLE:
        return against
    of_it = f"the source {preview['source_table']} "
    others = [sentence for sentence in against if not sentence.startswith(of_it)]
    return [f"{missing}{meant(source, (row['namespace'] for row in schema.list_namespaces()))}", *others]


def _end_dry_run(
    preview: dict[str, Any], against: list[str], mode: str, source: str, target: str, *, as_json: bool
) -> None:
    typed = f"legacy --to {target}" if source == LEGACY_TABLE else f"{mode} {source} {target}"
    steps = ["vecfleet pg namespaces"] if against else [f"vecfleet pg {typed}"]
    if as_json:
        say_json({**preview, "dry_run": True, "possible": not against, "next_steps": steps})
    else:
        say("this was a dry run and nothing was changed")
    if against:
        raise Refused(
            "this does not hold: " + "; ".join(against),
            code="check-failed",
            next_step=steps[0],
            objections=tuple(against),
        )
    if not as_json:
        say_next(steps)


def _say_preview(preview: dict[str, Any]) -> None:
    say(f"{preview['source_table']} → {preview['target_table']} ({preview['mode']})")
    say(f"  rows: {preview['row_count']:,}, size: {preview['table_size'] or 'unknown'}; free twice that on the server")
    for number, step in enumerate(preview["steps"], start=1):
        say(f"  {number}. {step}")
    for sentence, holds in preview["checks"].items():
        say(f"  {'holds' if holds else 'DOES NOT HOLD'}: {sentence}")


def _say_step(step: str) -> None:
    say(f"  … {step}")
