"""The vectors a plan makes anew: which text of a record is embedded, by which model. Pure.

The text is read from the record as its source holds it, before any metadata map; or from the row that a file or a
table holds for the record's id. So the same record has the same text on every read, and a text has one vector: that of
the cache.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from migrations.mapping import filled, keys_of
from vecfleet.errors import BadInput
from vecfleet.model_cards import ModelCard
from vecfleet.records import Metadata, Record
from vecfleet.stores.base import IndexInfo, Kind

WithoutText = Literal["park", "copy"]
TooLong = Literal["park", "cut"]


@dataclass(frozen=True, slots=True)
class NoText:
    """A record has no text to embed."""

    reason: str


class Gate(BaseModel):
    """The quality gate of a plan: the file of its questions, and the means that each namespace must reach.

    Without a file, sampled records stand for questions: each is asked by its old vector and by its new one. `counts`:
    the questions of each source namespace; `digest`: of the file when the plan was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = None
    digest: str = ""
    counts: dict[str, int] = Field(default_factory=dict)
    least_recall: float = Field(default=0.8, ge=0, le=1)
    least_overlap: float = Field(default=0.0, ge=0, le=1)


class TextsRef(BaseModel):
    """The rows that texts are read from where the metadata do not hold them: each has a record's id in the column `id`.

    A file stands under VECFLEET_ROOT and has this `digest` as long as the plan is worked on. The address of the
    database with `table` is TEXTS_DATABASE_URL; with `rest`, its project is SUPABASE_URL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = None
    digest: str = ""
    table: str | None = None
    rest: bool = False
    id: str = "id"

    @property
    def name(self) -> str:
        return self.file or f"the table {self.table}{' of Supabase' if self.rest else ''}"


class Embedding(BaseModel):
    """A plan's model, and the text it embeds: a template with {keys}.

    `rows`: the keys are columns of these rows; None: keys of the record's metadata. `without_text`: records without
    text are parked, or copied with the vector they have. `cache`: whether vectors are kept by the digest of their text,
    so that none is paid for twice; `cache_key` names the key that encrypts them. `dollars_cap`: the job pauses before
    it spends more on the model. `integrated`: the target embeds the texts itself, so its vectors are compared with
    none. `old`: the model of the source's vectors, if it is told; clients then ask either side by text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    card: ModelCard
    old: ModelCard | None = None
    text: str
    rows: TextsRef | None = None
    without_text: WithoutText = "park"
    too_long: TooLong = "park"
    cache: bool = True
    cache_key: str | None = None
    dollars_cap: float | None = Field(default=None, gt=0)
    integrated: bool = False
    gate: Gate = Gate()

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys that the text is made of: of the metadata, or the columns of the rows."""
        return tuple(dict.fromkeys(keys_of(self.text)))

    def text_of(self, fields: Metadata | None) -> str | NoText:
        """Return the text that a record's metadata make, or its row (None: it has none); or why there is no text."""
        if fields is None:
            return NoText(f"{self.rows.name if self.rows is not None else 'nothing'} has no row of its id")
        read = {key: value for key in self.keys if (value := fields.get(key)) is not None}
        lacking = [key for key in self.keys if key not in read]
        key = "metadata key" if self.rows is None else f"value in {self.rows.name} under"
        if lacking:
            return NoText(f"it has no {key} {lacking[0]!r}, of which its text is made")
        if len(self.keys) == 1 and not isinstance(read[self.keys[0]], str):
            return NoText(f"its {key} {self.keys[0]!r} holds no text")
        text = filled(self.text, read)
        if not any(isinstance(value, str) and value.strip() for value in read.values()):
            return NoText("its text is empty")
        try:
            text.encode()
        except UnicodeEncodeError:
            return NoText("its text holds half a character, which cannot be sent")
        return text

    def made(self, source: IndexInfo) -> IndexInfo:
        """Return the source as an index of this model's vectors: what the target must be like."""
        if self.integrated:
            field: dict[str, Any] = {"type": "semantic_text", "model": self.card.model, "metric": self.card.metric}
            if self.card.shortened:
                field["dimension"] = self.card.dimension
            schema = {"fields": {self.keys[0]: field}}
            dimension = self.card.dimension if self.card.shortened else None  # else the service's own
            return replace(source, kind=Kind.INTEGRATED, dimension=dimension, metric=self.card.metric, schema=schema)
        hybrid = source.kind is Kind.HYBRID  # its sparse values go along, beside the new vectors
        metric = source.metric if hybrid else self.card.metric
        fields = dict(source.schema.get("fields", {})) if hybrid else {}
        fields["_values"] = {"type": "dense_vector", "dimension": self.card.dimension, "metric": metric}
        kind = Kind.HYBRID if hybrid else Kind.DENSE
        return replace(source, kind=kind, dimension=self.card.dimension, metric=metric, schema={"fields": fields})

    def fits(self, record: Record) -> bool:
        """Say whether a record without text may be copied with the vector it has."""
        return self.without_text == "copy" and record.dimension == self.card.dimension


def text_template(key: str | None, template: str | None) -> str:
    """Return the template of `--text-key` or `--text`; exactly one is given. Raises BadInput."""
    if (key is None) == (template is None):
        raise BadInput(
            "the text to embed must be named once",
            next_step="say --text-key KEY, or --text '{title}: {body}' where it is made of several keys",
        )
    if template is not None:
        if not keys_of(template):
            raise BadInput(
                f"the text {template!r} names no metadata key: every record would have the same vector",
                next_step="name keys in braces, as in '{title}: {body}'",
            )
        return template
    if not key or "{" in key or "}" in key:
        raise BadInput(f"{key!r} cannot be a metadata key here", next_step="name the key that holds the text")
    return f"{{{key}}}"


def without_text(embedding: Embedding, sample: Sequence[Record], texts: Sequence[str | NoText]) -> Mapping[str, int]:
    """Count the records of a sample that have no text, by their reasons."""
    reasons: dict[str, int] = {}
    for record, text in zip(sample, texts, strict=True):
        if isinstance(text, NoText) and not embedding.fits(record):
            reasons[text.reason] = reasons.get(text.reason, 0) + 1
    return reasons
