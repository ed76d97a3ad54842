"""`vecfleet pg process` and `search`: JSON documents into a namespace, and questions to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from orchestrator.cli.output import Json, say, say_json, say_next
from orchestrator.cli.pg import database, noted
from orchestrator.core.wording import counted
from vecfleet.embedders import Embedder, HashEmbedder, LocalEmbedder, openai_embedder
from vecfleet.errors import BadInput, NotFound
from vecfleet.pgvector import EmbeddingPipeline
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.schema import DEFAULT_DIMENSION
from vecfleet.settings import Settings

NamespaceOption = Annotated[str, typer.Option(metavar="NAMESPACE", help="Created on first use.")]
EmbedderOption = Annotated[
    Literal["openai", "local", "hash"],
    typer.Option(
        "--embedder",
        help="openai: EMBEDDING_MODEL at OPENAI_BASE_URL; local: a small model here, of 64, 128 or 256 dimensions; "
        "hash: words only, for rehearsals.",
    ),
]
_SHOWN_CHARS = 100
# One document is read whole into memory, at several times its size; a file of lines is not.
_MAX_DOCUMENT_BYTES = 256_000_000
SAMPLE = {
    "campaigns": [
        {"name": "Spring sale", "budget": 1200, "channels": ["search", "social"], "goal": "more visitors in April"},
        {"name": "Autumn clearance", "budget": 300, "channels": ["mail"], "goal": "empty shelves before winter"},
    ],
    "owner": "the marketing team",
}


def process(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A JSON document, or .jsonl: one in each line.")
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Use a small sample document instead of FILE.")] = False,
    namespace: NamespaceOption = "default",
    collection: Annotated[str, typer.Option(help="The collection; created by its first embedding.")] = "default",
    document: Annotated[str | None, typer.Option(help="Its id (default: the file's name).")] = None,
    config: Annotated[str | None, typer.Option(help="The size of chunks: default, fine or coarse.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Insert batch by batch: for large files.")] = False,
    dimension: Annotated[
        int, typer.Option(min=1, help="Dimension of the namespace, if it is created.")
    ] = DEFAULT_DIMENSION,
    embedder: EmbedderOption = "openai",
    as_json: Json = False,
) -> None:
    """Cut a JSON document into chunks, embed them and insert them; the same document again replaces itself."""
    if (file is None) is not sample:
        raise BadInput("name either a file or --sample", next_step="`vecfleet pg process FILE`")
    data, name = (SAMPLE, "sample") if file is None else _read(file)
    streaming = stream or isinstance(data, Iterator)
    with database() as (connection, settings):
        pipeline = _pipeline(connection, settings, namespace, embedder, config, dimension)
        with noted(settings, "process", namespace=namespace, collection=collection) as outcome:
            result = pipeline.process_json_data(data, collection, document or name, streaming=streaming)
            outcome["embeddings"] = result["total_embeddings"]
    asking = f'vecfleet pg search "a question" --namespace {namespace} --collection {collection}'
    steps = [asking + (f" --embedder {embedder}" if embedder != "openai" else "")]
    if as_json:
        say_json({**result, "next_steps": steps})
        return
    used = ", ".join(f"{count} {name}" for name, count in result["chunking_stats"]["strategies_used"].items())
    added = counted(result["total_embeddings"], "embedding", "embeddings")
    say(f"{result['document_id']} → {namespace}/{collection}: {added} ({used})")
    model = result["embedding_stats"]
    say(f"model: {model['embedding_model']}, {model['vector_dimensions']:,} dimensions")
    say_next(steps)


def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for.")],
    namespace: Annotated[str, typer.Option(metavar="NAMESPACE", help="Where to look.")] = "default",
    collection: Annotated[str | None, typer.Option(help="Only in this collection.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 10,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="The least similarity.")] = 0.0,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="Column or key; repeatable.")
    ] = None,
    embedder: EmbedderOption = "openai",
    as_json: Json = False,
) -> None:
    """The embeddings nearest to a question, best first."""
    with database() as (connection, settings):
        pipeline = _pipeline(connection, settings, namespace, embedder, None, DEFAULT_DIMENSION)
        result = pipeline.search_similar(question, collection, limit, threshold, dict(map(_filter, filters or ())))
    results = [_shown(record, score) for record, score in result["results"]]
    if as_json:
        say_json({**result, "results": results})
        return
    say(f"{len(results)} of {namespace}{'/' + collection if collection else ''}")
    for number, hit in enumerate(results, start=1):
        say(f"{number}. {hit['similarity']:.3f}  {hit['collection_name']}/{hit['document_id']}  {hit['path'] or ''}")
        say(f"   {' '.join(str(hit['text']).split())[:_SHOWN_CHARS]}")
    say_next([f"vecfleet pg collections {namespace}"])


def _pipeline(
    connection: DatabaseConnection,
    settings: Settings,
    namespace: str,
    embedder: str,
    config: str | None,
    dimension: int,
) -> EmbeddingPipeline:
    return EmbeddingPipeline(
        connection, config_name=config, namespace=namespace, embedder=_embedder(settings, embedder), dimension=dimension
    )


def _embedder(settings: Settings, name: str) -> Embedder:
    if name == "hash":
        return HashEmbedder()
    if name == "local":
        return LocalEmbedder()
    embedder = openai_embedder(settings)
    if embedder is None:
        raise BadInput(
            "OPENAI_API_KEY is not set",
            next_step="set it, or embed here: `--embedder local --dimension 256`, or for a rehearsal `--embedder hash`",
        )
    return embedder


def _read(file: Path) -> tuple[Any, str]:
    if not file.is_file():
        raise NotFound(f"there is no file {file}", next_step="check the name")
    if file.suffix == ".jsonl":
        return _lines(file), file.stem
    if file.stat().st_size > _MAX_DOCUMENT_BYTES:
        raise BadInput(
            f"{file.name} is over {_MAX_DOCUMENT_BYTES:,} bytes",
            next_step="give it as .jsonl, one document in each line",
        )
    try:
        return orjson.loads(file.read_bytes()), file.stem
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{file.name} is not JSON: line {error.lineno}", next_step="correct the file") from error


def _lines(file: Path) -> Iterator[Any]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise BadInput(f"{file.name}, line {number}, is not JSON", next_step="correct that line") from error


def _filter(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise BadInput(f"{text!r} is no filter", next_step="write it as strategy=semantic")
    return key, value


def _shown(record: Any, score: float) -> dict[str, Any]:
    columns = ("chunk_id", "document_id", "collection_name", "strategy", "content_type", "path", "text")
    return {**{name: getattr(record, name, None) for name in columns}, "similarity": score}
