"""`plan documents`: an index of vectors becomes a document index."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from migrations.documents import DENSE_FIELD, SPARSE_FIELD, DocumentsOptions, plan_documents
from migrations.idsources import find_ids
from orchestrator.cli.mapping import with_shared
from orchestrator.cli.options import NewIndexOptions, PlanOptions
from orchestrator.cli.output import Json
from orchestrator.cli.planning import write
from orchestrator.cli.session import fleet
from vecfleet.drafts import Draft
from vecfleet.errors import BadInput


@with_shared("options", PlanOptions)
@with_shared("new", NewIndexOptions)
def documents(
    options: PlanOptions,
    new: NewIndexOptions,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The index of vectors.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The document index; created if it does not exist.")],
    dense_field: Annotated[
        str, typer.Option(metavar="NAME", help="The field of a new index for dense values.")
    ] = DENSE_FIELD,
    sparse_field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"For sparse values (default: {SPARSE_FIELD}, if any record has some)."),
    ] = None,
    full_text: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY[=JSON]", help="Search this metadata key as text, as JSON says; may be repeated."),
    ] = None,
    name_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=NAME", help="The name of a metadata key in the documents; may be repeated."),
    ] = None,
    refused: Annotated[
        Literal["fail", "park"], typer.Option(help="Records that cannot become documents: plan nothing, or park them.")
    ] = "fail",
    via: Annotated[
        Literal["copy", "convert"],
        typer.Option(help="Copy each record; or have the service convert the index, and copy what it leaves out."),
    ] = "copy",
    refused_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write each of these here: JSON lines of namespace, id, reason.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Ids of a pod index: CSV namespace,id, or NAMESPACE=FILE.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan to turn an index of vectors into a document index. Reads every record; writes the plan file only."""
    with fleet() as parts, ExitStack() as files:
        settings = parts.settings
        (store, from_index), (into, to_index) = parts.accounts.located(source), parts.accounts.located(target)
        recipe = DocumentsOptions(
            source=from_index,
            target=to_index,
            dense=dense_field,
            sparse=sparse_field,
            texts=dict(map(_text, full_text or ())),
            names=dict(map(_name, name_key or ())),
            parks_refused=refused == "park",
            converts=via == "convert",
            grouping=options.grouping(settings) if options.regroups else None,
            new=new.new_index(),
            ids=find_ids(settings.vecfleet_root, ids) if ids else None,
            common=options.common(settings),
        )
        draft = files.enter_context(Draft(refused_file)) if refused_file is not None else None
        lines = files.enter_context(draft.path.open("w", encoding="utf-8")) if draft is not None else None

        def note(namespace: str, record_id: str, why: str) -> None:
            if lines is not None:
                lines.write(json.dumps({"namespace": namespace, "id": record_id, "reason": why}) + "\n")

        def keep() -> None:
            if draft is not None:
                draft.publish()

        plan = plan_documents(store, recipe, now=datetime.now(UTC), into=into, refused=note, on_read=keep)
        write(parts, plan, options.out, as_json=as_json)


def _text(asked: str) -> tuple[str, dict[str, Any]]:
    """Read KEY or KEY=JSON. Raises BadInput."""
    key, given, options = asked.partition("=")
    try:
        read = json.loads(options) if given else {}
    except ValueError:
        read = None
    if not key or not isinstance(read, dict):
        raise BadInput(
            f"--full-text {asked!r} is neither KEY nor KEY=JSON",
            next_step="""write --full-text body, or --full-text 'body={"language": "de", "stemming": true}'""",
        )
    return key, read


def _name(asked: str) -> tuple[str, str]:
    """Read KEY=NAME. Raises BadInput."""
    key, given, name = asked.partition("=")
    if not given or not name:
        raise BadInput(
            f"--name-key {asked!r} is not KEY=NAME", next_step="write _node_content=node_content, for example"
        )
    return key, name
