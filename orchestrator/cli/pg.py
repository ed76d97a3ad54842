"""`vecfleet pg`: the namespaces of a Postgres database with pgvector. Each change is noted in a log file."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from orchestrator.cli.output import Json, confirm, say, say_json, say_next, say_table
from orchestrator.cli.session import who
from orchestrator.core.wording import counted
from vecfleet.errors import BadInput, NotFound, VecfleetError
from vecfleet.names import meant
from vecfleet.pgvector import EmbeddingPipeline, EmbeddingSchema
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.indexes import Method
from vecfleet.pgvector.schema import DEFAULT_DIMENSION
from vecfleet.pgvector.store import not_found
from vecfleet.settings import Settings

Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE", help="As `vecfleet pg namespaces` lists it.")]
Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="As `vecfleet pg collections` lists it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, typer.Option("--force", "--yes", help="Do not ask.")]
Dimension = Annotated[int, typer.Option(min=1, help="How many numbers a vector has; above 2,000 as 16-bit halves.")]
IndexMethod = Annotated[
    Method | None,
    typer.Option("--index", help="How the index on the vectors is built (default: as it is; a new one: ivfflat)."),
]
Layout = Annotated[
    Literal["seed", "published"],
    typer.Option(help="The columns: as the namespace document has them, or as the published project's code does."),
]


@contextmanager
def database() -> Iterator[tuple[DatabaseConnection, Settings]]:
    """Connect to the database that PGVECTOR_URL names. Raises BadInput where it names none."""
    settings = Settings.load()
    if settings.pgvector_url is None:
        raise BadInput("PGVECTOR_URL is not set", next_step="set it: postgresql://user:password@host:5432/vectordb")
    connection = DatabaseConnection(database_url=settings.pgvector_url.get_secret_value())
    try:
        yield connection, settings
    finally:
        connection.close()


@contextmanager
def noted(settings: Settings, action: str, **facts: Any) -> Iterator[dict[str, Any]]:
    """Write one line to the log file about what is done inside, and how it ended. Names and numbers only."""
    outcome: dict[str, Any] = {}
    ended = "done"
    try:
        yield outcome
    except VecfleetError as error:
        ended = f"failed: {error.message}"
        raise
    except BaseException as error:
        ended = f"ended by {type(error).__name__}"
        raise
    finally:
        line = {"at": datetime.now(UTC).isoformat(), "who": who(), "action": action, **facts, "ended": ended, **outcome}
        place = log_file(settings)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("ab") as log:
            log.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def log_file(settings: Settings) -> Path:
    return settings.vecfleet_home / "logs" / "pg.log"


def setup(
    namespace: Annotated[str, typer.Option(metavar="NAMESPACE", help="The first namespace.")] = "default",
    dimension: Dimension = DEFAULT_DIMENSION,
    as_json: Json = False,
) -> None:
    """Create the extension and a namespace, if they are missing. Safe to repeat."""
    with database() as (connection, settings), noted(settings, "setup", namespace=namespace):
        result = EmbeddingPipeline(connection, namespace=namespace, dimension=dimension).setup_database()
    if as_json:
        say_json(result)
        return
    info = result["connection_info"]
    say(f"Postgres {info['postgresql_version']} at {info['database_url']}")
    say("the extension vector was created" if result["extension_created"] else "the extension vector is there")
    _say_stats(result["namespace"])
    say_next([f"vecfleet pg process FILE --namespace {namespace}"])


def namespaces(as_json: Json = False) -> None:
    """Every namespace, with how many embeddings it holds and whether its vectors have an index."""
    with database() as (connection, _):
        entries = EmbeddingSchema(connection.database_url, database=connection).list_namespaces()
    if as_json:
        say_json({"namespaces": entries})
        return
    say(
        f"{counted(len(entries), 'namespace', 'namespaces')}, "
        f"{_embeddings(sum(row['embedding_count'] for row in entries))}"
    )
    rows = [
        (row["namespace"], row["table_name"], f"{row['embedding_count']:,}", _yes(row["vector_index_exists"]))
        for row in entries
    ]
    say_table(["namespace", "table", ">embeddings", "vector index"], rows)
    bare = [row["namespace"] for row in entries if row["embedding_count"] and not row["vector_index_exists"]]
    say_next([f"vecfleet pg create {bare[0]}"] if bare else ["vecfleet pg stats NAMESPACE"])


def stats(namespace: Namespace, as_json: Json = False) -> None:
    """One namespace: embeddings, collections, size on disk, dimension, vector index."""
    with database() as (connection, _):
        result = _existing(EmbeddingSchema(connection.database_url, database=connection), namespace)
    if as_json:
        say_json(result)
        return
    _say_stats(result)
    say_next([f"vecfleet pg collections {namespace}"])


def create(
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="a-z, 0-9 and _, at most 50 characters.")],
    dimension: Dimension = DEFAULT_DIMENSION,
    index: IndexMethod = None,
    layout: Layout = "seed",
    as_json: Json = False,
) -> None:
    """Create a namespace; if it exists, build its missing indexes and rebuild that of its vectors."""
    with database() as (connection, settings), noted(settings, "create", namespace=namespace):
        schema = EmbeddingSchema(
            connection.database_url, dimension=dimension, layout=layout, method=index, database=connection
        )
        schema.create_namespace(namespace)
        result = schema.get_namespace_stats(namespace)
    if as_json:
        say_json(result)
        return
    _say_stats(result)
    if not result["embedding_count"]:
        say("its vector index is built once there are rows: type this command again then")
    say_next([f"vecfleet pg process FILE --namespace {namespace}"])


def drop(namespace: Namespace, dry_run: DryRun = False, force: Force = False, as_json: Json = False) -> None:
    """Delete a namespace with everything in it. There is no way back."""
    with database() as (connection, settings):
        schema = EmbeddingSchema(connection.database_url, database=connection)
        facts = _existing(schema, namespace)
        if not dry_run:
            confirm(
                f"Delete {facts['table_name']} with {_embeddings(facts['embedding_count'])} ({facts['table_size']})?",
                yes=force,
            )
            with noted(settings, "drop", namespace=namespace, embeddings=facts["embedding_count"]):
                schema.drop_namespace(namespace)
    if as_json:
        say_json({**facts, "dropped": not dry_run})
        return
    _say_stats(facts)
    say("this would be deleted; this was a dry run" if dry_run else "deleted")
    say_next([f"vecfleet pg drop {namespace}" if dry_run else "vecfleet pg namespaces"])


def collections(namespace: Namespace, as_json: Json = False) -> None:
    """The collections of a namespace, each with its embeddings, strategies and content types."""
    with database() as (connection, _):
        entries = EmbeddingPipeline(connection, namespace=namespace).list_collections()
    if as_json:
        say_json({"namespace": namespace, "collections": entries})
        return
    total = sum(collection["total_embeddings"] for collection in entries)
    say(f"{namespace}: {counted(len(entries), 'collection', 'collections')}, {_embeddings(total)}")
    say_table(
        ["collection", ">embeddings", "strategies", "content types", ">mean density"],
        [
            (
                collection["collection_name"],
                f"{collection['total_embeddings']:,}",
                ", ".join(collection["strategies"]),
                ", ".join(collection["content_types"]),
                f"{collection['avg_semantic_density']:.3f}",
            )
            for collection in entries
        ],
    )
    say_next([f"vecfleet pg collection-stats {namespace} COLLECTION"])


def collection_stats(namespace: Namespace, collection: Collection, as_json: Json = False) -> None:
    """One collection of a namespace."""
    with database() as (connection, _):
        result = _filled(EmbeddingPipeline(connection, namespace=namespace), collection)
    if as_json:
        say_json(result)
        return
    _say_collection(result)
    say_next([f'vecfleet pg search "a question" --namespace {namespace} --collection {collection}'])


def empty(
    namespace: Namespace,
    collection: Collection,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Delete every embedding of a collection. There is no way back."""
    with database() as (connection, settings):
        pipeline = EmbeddingPipeline(connection, namespace=namespace)
        facts = _filled(pipeline, collection)
        deleted = 0
        if not dry_run:
            confirm(f"Delete {_embeddings(facts['total_embeddings'])} of {namespace}/{collection}?", yes=force)
            with noted(settings, "empty", namespace=namespace, collection=collection) as outcome:
                deleted = outcome["deleted"] = pipeline.delete_collection(collection)
    if as_json:
        say_json({**facts, "deleted": deleted})
        return
    _say_collection(facts)
    say("these would be deleted; this was a dry run" if dry_run else f"deleted {_embeddings(deleted)}")
    say_next([f"vecfleet pg collections {namespace}"])


def _existing(schema: EmbeddingSchema, namespace: str) -> dict[str, Any]:
    """Return the figures of a namespace. Raises NotFound if it is not there."""
    figures = schema.get_namespace_stats(namespace)
    if not figures["exists"]:
        raise not_found(namespace, (row["namespace"] for row in schema.list_namespaces()))
    return figures


def _filled(pipeline: EmbeddingPipeline, collection: str) -> dict[str, Any]:
    """Return the figures of a collection. Raises NotFound if nothing is in it."""
    figures = pipeline.get_collection_stats(collection)
    if not figures["total_embeddings"]:
        near = meant(collection, (row["collection_name"] for row in pipeline.list_collections()))
        raise NotFound(
            f"there is no collection {collection!r} in {pipeline.namespace!r}{near}",
            next_step=f"`vecfleet pg collections {pipeline.namespace}` lists them",
        )
    return figures


def _say_collection(collection: dict[str, Any]) -> None:
    say(f"collection: {collection['collection_name']}")
    say(f"  embeddings: {collection['total_embeddings']:,}")
    say(f"  strategies: {', '.join(collection['strategies'])}")
    say(f"  content types: {', '.join(collection['content_types'])}")
    say(f"  mean semantic density: {collection['avg_semantic_density']:.3f}")


def _say_stats(figures: dict[str, Any]) -> None:
    say(f"namespace: {figures['namespace']}")
    say(f"  table: {figures['table_name']}, {figures['vector_type']}({figures['dimension']}), {figures['table_size']}")
    collections = counted(figures["collection_count"], "collection", "collections")
    say(f"  embeddings: {figures['embedding_count']:,} in {collections}")
    say(f"  vector index: {_yes(figures['vector_index_exists'])}")


def _embeddings(count: int) -> str:
    return counted(count, "embedding", "embeddings")


def _yes(there: bool) -> str:
    return "yes" if there else "no"
