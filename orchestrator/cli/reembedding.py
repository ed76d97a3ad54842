"""`plan reembed`: another model for a whole index."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from migrations.embedding import Embedding, TooLong, WithoutText, text_template
from migrations.idsources import find_ids
from migrations.questions import gate_of
from migrations.reembedding import ReembedOptions, plan_reembed
from migrations.sealing import key_name
from migrations.texts import open_rows, rows_of
from orchestrator.bootstrap import Fleet
from orchestrator.cli.mapping import with_shared
from orchestrator.cli.options import NewIndexOptions, PolicyOptions
from orchestrator.cli.output import Json
from orchestrator.cli.planning import write
from orchestrator.cli.session import fleet
from vecfleet.embedders import LOCAL_MODEL
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.errors import BadInput
from vecfleet.stores.base import Store


@with_shared("options", PolicyOptions)
@with_shared("new", NewIndexOptions)
def reembed(
    options: PolicyOptions,
    new: NewIndexOptions,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The index with the old vectors, INDEX or STORE:INDEX.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The same, for the new vectors; created if it does not exist.")
    ],
    model: Annotated[
        str, typer.Option(metavar="PROVIDER/MODEL", help="openai/…, cohere/…, voyage/…, pinecone/… or local/wordllama.")
    ] = LOCAL_MODEL,
    dimension: Annotated[
        int | None, typer.Option(min=1, help="Dimension of the new vectors, if the model offers several.")
    ] = None,
    old_model: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER/MODEL",
            help="The model of the old vectors: clients query each side of a route with its own model.",
        ),
    ] = None,
    text_key: Annotated[str | None, typer.Option(metavar="KEY", help="The metadata key that holds the text.")] = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEMPLATE", help="A text made of several keys: '{title}: {body}'.")
    ] = None,
    text_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|postgres:TABLE|supabase:TABLE",
            help="Read the keys of the text from columns: .jsonl or .parquet under VECFLEET_ROOT, or a table.",
        ),
    ] = None,
    text_id: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column of that file or table with the records' ids.")
    ] = "id",
    without_text: Annotated[
        WithoutText, typer.Option(help="Records without text; `copy` keeps a vector that has the new dimension.")
    ] = "park",
    too_long: Annotated[TooLong, typer.Option(help="Texts that are longer than the model takes.")] = "park",
    integrated: Annotated[
        bool,
        typer.Option(
            "--integrated", help="Let the target embed the texts; created as such an index if it does not exist."
        ),
    ] = False,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Cache vectors by the digest of their text: none is paid for twice."),
    ] = True,
    questions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON lines of question, namespace, relevant, like; under VECFLEET_ROOT."),
    ] = None,
    least_recall: Annotated[
        float, typer.Option(min=0, max=1, help="The mean recall that the questions of each namespace must reach.")
    ] = 0.8,
    least_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="The share of answers that both models must have in common, on average.")
    ] = 0.0,
    dollars_cap: Annotated[
        float | None, typer.Option(min=0.01, help="Pause before the model has cost more than this.")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Dollars for a million tokens.")] = None,
    requests_per_minute: Annotated[float | None, typer.Option(min=1, help="Your limit at the model's service.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(min=1, help="Likewise.")] = None,
    ids: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Ids of a pod index: CSV namespace,id, or NAMESPACE=FILE.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan to embed an index again with another model, into another index. Writes the plan file only."""
    template = text_template(text_key, text)
    with fleet() as parts:
        settings = parts.settings
        (store, from_index), (into, to_index) = _located(parts, source), _located(parts, target)
        told = {
            "dollars_per_million_tokens": price,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
        }
        listed = look_up(model, settings, dimension)
        card = listed.model_copy(update={name: value for name, value in told.items() if value is not None})
        if integrated and card.provider != "pinecone":
            raise BadInput(
                f"{card.name} is not a model that Pinecone hosts: no index can embed with it",
                next_step="name one, as --model pinecone/multilingual-e5-large; or leave --integrated out",
            )
        opened = open_model(card, settings)
        if too_long == "cut" and not opened.cuts:
            raise BadInput(f"{card.name} cannot cut a text", next_step="leave --too-long out: such texts are parked")
        if dollars_cap is not None and not (card.dollars_per_million_tokens or card.is_local):
            raise BadInput(
                f"the price of {card.name} is not known here, so --dollars-cap would never pause the job",
                next_step="name it with --price, in dollars for a million tokens",
            )
        rows = rows_of(settings, text_from, text_id)
        embedding = Embedding(
            card=card,
            old=look_up(old_model, settings, store.describe(from_index).dimension) if old_model else None,
            text=template,
            rows=rows,
            without_text=without_text,
            too_long=too_long,
            integrated=integrated,
            cache=cache,
            cache_key=key_name(settings) if cache and not (integrated or card.is_local) else None,
            dollars_cap=dollars_cap,
            gate=gate_of(settings.vecfleet_root, questions, least_recall, least_overlap),
        )
        recipe = ReembedOptions(
            source=from_index,
            target=to_index,
            embedding=embedding,
            new=new.new_index(),
            ids=find_ids(settings.vecfleet_root, ids) if ids else None,
            common=replace(
                options.common(settings, **({"verify": "content+query"} if questions else {})),
                texts=open_rows(rows, embedding.keys, settings) if rows is not None else None,
            ),
        )
        plan = plan_reembed(store, into, recipe, model=opened, now=datetime.now(UTC))
        write(parts, plan, options.out, as_json=as_json)


def _located(parts: Fleet, text: str) -> tuple[Store, str]:
    """Return the store and the index of STORE:INDEX, or of INDEX at Pinecone."""
    name, separator, index = text.partition(":")
    return (parts.store_named(name), index) if separator else (parts.store, text)
