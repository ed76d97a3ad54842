"""Copy and move namespaces inside one database, with previews: the seed's `NamespaceMigration`."""

import time
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from vecfleet import logs
from vecfleet.errors import BadInput, VecfleetError
from vecfleet.pgvector import moving, naming, tables
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.indexes import Method
from vecfleet.pgvector.moving import Mode, Moved, Telling

log = logs.get_logger("vecfleet.pgvector")

MODES: tuple[Mode, ...] = ("copy", "move")


class NamespaceMigration:
    """Migrates namespaces of one database. The seed's methods return a dictionary, in failure too.

    `run` and `preview` raise instead, for callers that want the reason as an error.
    """

    def __init__(self, database_url: str, *, database: DatabaseConnection | None = None) -> None:
        self._database = database or DatabaseConnection(database_url=database_url)

    def migrate_namespace(self, source_namespace: str, target_namespace: str, mode: str = "copy") -> dict[str, Any]:
        """Return `success`, `rows_migrated`, `duration_seconds`, `source_action`, …; or `success` False and `error`.

        The source `embeddings` is the table from before there were namespaces. A backup may be copied by its table's
        name, as `check` gives it.
        """
        try:
            done = self.run(source_namespace, target_namespace, mode)
        except VecfleetError as error:
            log.warning("nothing was migrated", source=source_namespace, target=target_namespace, why=error.message)
            return {
                "success": False,
                "error": error.message,
                "next_step": error.next_step,
                "source": source_namespace,
                "target": target_namespace,
                "mode": mode,
            }
        log.info("migrated", **{key: done[key] for key in ("source_table", "target_table", "mode", "rows_migrated")})
        return done

    def migrate_legacy_table(self, target_namespace: str = "default") -> dict[str, Any]:
        """Move the table `embeddings` to a namespace; it stays as `embeddings_backup_{timestamp}`."""
        return self.migrate_namespace(naming.LEGACY_TABLE, target_namespace, mode="move")

    def copy_namespace(self, source: str, target: str) -> dict[str, Any]:
        return self.migrate_namespace(source, target, mode="copy")

    def move_namespace(self, source: str, target: str) -> dict[str, Any]:
        return self.migrate_namespace(source, target, mode="move")

    def run(
        self,
        source_namespace: str,
        target_namespace: str,
        mode: str = "copy",
        *,
        digest: bool = True,
        method: Method | None = None,
        tell: Telling = lambda _: None,
    ) -> dict[str, Any]:
        """Migrate, or raise the reason. Runs whole or not at all, and may be run again after any failure."""
        checked, source = _mode(mode), self._source_table(source_namespace)
        naming.check(target_namespace)
        began = time.monotonic()
        with self._database.transaction(f"{mode} {source} to {naming.table_name(target_namespace)}") as connection:
            done = moving.move(
                connection,
                source,
                target_namespace,
                mode=checked,
                now=datetime.now(UTC),
                digest=digest,
                method=method,
                tell=tell,
            )
        return _answer(done, checked, time.monotonic() - began)

    def preview(self, source_namespace: str, target_namespace: str, mode: str = "copy") -> dict[str, Any]:
        """Return what `run` would do, and whether it could: `checks` are sentences with answers. Changes nothing."""
        checked, source = _mode(mode), self._source_table(source_namespace)
        target = naming.table_name(target_namespace)
        with self._database.transaction("look at what would be migrated") as connection:
            table = tables.find(connection, source)
            taken = tables.find(connection, target)
            rows = tables.count(connection, table) if table is not None else 0
            readers = moving.readers_of(connection, table) if table is not None and checked == "move" else []
            size = None
            if table is not None:
                row = connection.execute(
                    sql.SQL("SELECT pg_size_pretty(pg_total_relation_size({}::regclass))").format(
                        sql.Literal(table.identifier.as_string(connection))
                    )
                ).fetchone()
                size = row[0] if row else None
        return {
            "source_table": source,
            "target_table": target,
            "mode": checked,
            "row_count": rows,
            "table_size": size,
            "checks": {
                f"the source {source} exists": table is not None,
                f"the target {target} does not exist": taken is None,
                f"the source {source} holds embeddings": table is not None and table.column("chunk_id") is not None,
                **({f"nothing else means {source}: {', '.join(readers)}": False} if readers else {}),
            },
            "steps": _steps(source, target, rows, checked),
        }

    def _source_table(self, source: str) -> str:
        """Return the table that is meant: that of a namespace, a backup of this table name, or the legacy one.

        Raises InvalidNamespace.
        """
        if source == naming.LEGACY_TABLE:
            return source
        if source.startswith(naming.PREFIX):
            with self._database.transaction(f"look for {source!r}") as connection:
                named = tables.find(connection, source)
                namespace = tables.find_namespace(connection, source)
            if namespace is None and named is not None and "backup_of" in named.said:
                return source
        return naming.table_name(source)

    def check(self) -> dict[str, Any]:
        """Say whether the table from before namespaces is still to be migrated, and which backups there are."""
        with self._database.transaction("look for what is to be migrated") as connection:
            legacy = tables.find(connection, naming.LEGACY_TABLE)
            default = tables.find_namespace(connection, "default")
            rows = tables.count(connection, legacy) if legacy is not None else 0
            kept = [
                {
                    "table_name": table.name,
                    **{key: table.said.get(key) for key in ("backup_of", "moved_to", "moved_at")},
                }
                for table in tables.backups(connection)
            ]
        return {
            "legacy_table_exists": legacy is not None,
            "legacy_row_count": rows,
            "default_namespace_exists": default is not None,
            "migration_needed": legacy is not None and default is None,
            "backups": kept,
        }


def _mode(mode: str) -> Mode:
    if mode not in MODES:
        raise BadInput(f"invalid mode {mode!r}", next_step="it is `copy` or `move`")
    return "copy" if mode == "copy" else "move"


def _steps(source: str, target: str, rows: int, mode: Mode) -> list[str]:
    last = "keep the source as it is" if mode == "copy" else f"rename {source} to {source}_backup_(timestamp)"
    return [
        f"create {target} with the columns of {source} and a sequence of its own",
        f"copy {rows:,} rows",
        "compare count and content of both",
        f"build all indexes of {target}",
        last,
    ]


def _answer(done: Moved, mode: Mode, seconds: float) -> dict[str, Any]:
    return {
        "success": True,
        "source_table": done.source,
        "target_table": done.target,
        "mode": mode,
        "rows_migrated": done.contents.rows,
        "content_digest": None if done.contents.digest is None else f"{done.contents.digest:x}",
        "duration_seconds": seconds,
        "source_action": done.source_action,
        "vector_index_exists": done.vector_index,
        "warnings": list(done.warnings),
        "timestamp": datetime.now(UTC).isoformat(),
    }
