"""Recipe `documents`: an index of vectors becomes a document index, after every record was read and found to fit.

Records keep their ids, values and metadata. Only names differ: each kind of values gets a field, and a metadata key
that documents refuse (`_node_content`) gets another name, which the plan says and every read of the job takes back. So
the proof compares the records of both sides as they are, and a reverse plan brings back the very same.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from migrations import checks, convertible
from migrations.creators import Grouping
from migrations.findings import Findings, counted, few
from migrations.idsources import IdSources
from migrations.index import new_index
from migrations.mapping import MetadataMap
from migrations.plan import NewIndex, Plan
from migrations.recipes import Common, plan_surveyed
from migrations.survey import Survey, Surveyor
from vecfleet.enriching import OWNER_KEYS, SOURCE, Conflict
from vecfleet.errors import BadInput, BadPlan
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind, Store
from vecfleet.stores.documents import DENSE_TYPE, FULL_TEXT, SPARSE_TYPE, Layout

DENSE_FIELD, SPARSE_FIELD = "embedding", "sparse_embedding"
EXAMPLES = 5
_KNOWN_BY = OWNER_KEYS | {SOURCE}
"""Keys by which records are known: clients filter by them, an erasure and a reverse plan look for them."""

Refused = Callable[[str, str, str], object]
"""Told of each record that fits no document: its namespace, its id, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsOptions:
    """Recipe `documents`. `dense`, `sparse`: the fields for values, in an index to be created; `sparse` None: only if
    any record has sparse values.

    `texts`: metadata keys that are searched as text, each with its options. `names`: metadata key → its name there.
    `parks_refused`: plan although some records fit no document; the copy parks them. `converts`: the service makes the
    new index of the source, and the job copies what that leaves out.
    """

    source: str
    target: str
    dense: str = DENSE_FIELD
    sparse: str | None = None
    texts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    parks_refused: bool = False
    converts: bool = False
    grouping: Grouping | None = None
    new: NewIndex = field(default_factory=NewIndex)
    ids: IdSources | None = None
    common: Common = field(default_factory=Common)


@dataclass(slots=True)
class _Preflight:
    """Counts of a reading of every record, and the first ids that fit no document, by reason."""

    read: int = 0
    with_sparse: int = 0
    renamed: int = 0
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def refuse(self, namespace: str, record_id: str, why: str) -> None:
        self.counts[why] += 1
        if len(self.refused[why]) < EXAMPLES:
            self.refused[why].append(f"{namespace}: {record_id}")

    def findings(self, *, parks: bool) -> Findings:
        findings = Findings()
        for why in sorted(self.counts, key=lambda why: (-self.counts[why], why)):
            text = (
                f"{counted(self.counts[why], 'record')} cannot be stored as a document: {why}: {few(self.refused[why])}"
            )
            findings.found(text + (" will be parked" if parks else ""), stops=not parks)
        return findings


def plan_documents(
    store: Store,
    options: DocumentsOptions,
    *,
    now: datetime,
    into: Store | None = None,
    refused: Refused = lambda *_: None,
    on_read: Callable[[], object] = lambda: None,
) -> Plan:
    """Plan the recipe `documents`. Reads every record; writes nothing. `on_read` is called once all are read.

    `into`: the account of the target (None: that of the source). Raises BadPlan with every problem found, the records
    that can be no documents grouped by reason; NotFound where there is no such source.
    """
    _check_names(options)
    surveyor = Surveyor.between(store, into)
    survey = surveyor.survey(options.source, options.target, options.ids)
    _check_kinds(survey, options)
    common = options.common
    if options.converts:
        convertible.check(survey, options.grouping, common.policies, options.new, across=surveyor.into is not None)
        common = replace(common, policies=common.policies.model_copy(update={"converted": True}))
    create = new_index(survey, options.target, options.new)
    fields = dict(survey.target.schema["fields"]) if survey.target is not None else _fields(survey.source, options)
    layout = _layout(survey, fields, options.names)
    plan = plan_surveyed("documents", surveyor, survey, options.grouping, common, now, options.target, create)
    if options.converts:
        convertible.check_all_chosen(plan, survey)
    preflight = _read_every_record(surveyor, survey, plan, layout, refused)
    on_read()
    findings = preflight.findings(parks=options.parks_refused)
    if findings.problems:
        _raise(findings, layout)
    if create is not None and options.sparse is None and layout.dense is not None and not preflight.with_sparse:
        fields.pop(layout.sparse or "", None)
    kind = _kind(fields)
    checks.check_queries([replace(survey.source, schema={"fields": fields})], plan.policies).raise_problems()
    target = plan.target.model_copy(update={"kind": kind, "fields": fields, "names": dict(options.names)})
    source = plan.source.model_copy(update={"fields": survey.source.schema.get("fields")})
    said = _said(preflight, create, kind, survey)
    if convertible.is_convertible(survey, options.grouping, plan, across=surveyor.into is not None):
        said += convertible.said(plan, surveyor, survey, common.prices, preflight.renamed)
    warnings = (*plan.warnings, *findings.warnings, *said)
    before = convertible.made_before(store, plan) if options.converts else None
    told = {"warnings": warnings, "filled_before": before}
    return plan.model_copy(update={"source": source, "target": target, **told}).sealed()


def _check_names(options: DocumentsOptions) -> None:
    taken = _KNOWN_BY & {options.dense, options.sparse, *options.texts, *options.names, *options.names.values()}
    if taken:
        raise BadInput(
            f"a tenant's records are known by these keys, which keep their names and are no vectors and no searched "
            f"texts: {few(taken)}",
            next_step="leave them out of `--name-key` and `--full-text`, and name the fields for vectors otherwise",
        )


def _check_kinds(survey: Survey, options: DocumentsOptions) -> None:
    if Layout.of(survey.source) is not None:
        raise BadPlan(
            f"the index {options.source!r} holds documents already",
            next_step=f"`vecfleet plan index {options.source} {options.target}` copies it as it is",
        )
    if survey.target is not None and survey.target.kind is not Kind.DOCUMENT and Layout.of(survey.target) is None:
        raise BadPlan(
            f"the index {options.target!r} is there and holds vectors: an index never becomes one of documents",
            next_step="name an index that does not exist, or one of documents",
        )
    if survey.target is not None and (options.texts or options.sparse is not None):
        raise BadPlan(
            f"the index {options.target!r} is there, and the fields of an index never change",
            next_step="leave out `--full-text` and `--sparse-field`, or name an index that does not exist",
        )


def _fields(source: IndexInfo, options: DocumentsOptions) -> dict[str, Any]:
    """Return the schema's fields for a new index, with one for sparse values wherever the source may hold some."""
    may_be_sparse = source.kind in (Kind.HYBRID, Kind.POD) or source.dimension is None
    fields: dict[str, Any] = {}
    if source.dimension is not None:
        fields[options.dense] = {"type": DENSE_TYPE, "dimension": source.dimension, "metric": source.metric}
    if may_be_sparse or options.sparse is not None:
        fields[options.sparse or SPARSE_FIELD] = {"type": SPARSE_TYPE}
    texts = {name: {"type": "string", FULL_TEXT: dict(asked)} for name, asked in options.texts.items()}
    twice = fields.keys() & texts.keys()
    if twice or options.dense == options.sparse:
        raise BadInput(
            f"a field cannot hold both vectors and text: {few(twice or {options.dense})}",
            next_step="name the fields for vectors otherwise: `--dense-field`, `--sparse-field`",
        )
    return fields | texts


def _layout(survey: Survey, fields: Mapping[str, Any], names: Mapping[str, str]) -> Layout:
    described = replace(survey.source, schema={"fields": fields}, names=dict(names))
    layout = Layout.of(described)
    why = layout.objection_to_names() if layout is not None else "the fields for vectors begin with an underscore"
    if layout is None or why is not None:
        raise BadInput(f"no such document index can be created: {why}", next_step="choose other names")
    return layout


def _read_every_record(surveyor: Surveyor, survey: Survey, plan: Plan, layout: Layout, refused: Refused) -> _Preflight:
    preflight, reader = _Preflight(), surveyor.reader(survey.source)
    for move in plan.moves:
        for record in reader.records(move.source, surveyor.ids(survey, move.source)):
            preflight.read += 1
            preflight.with_sparse += record.sparse is not None and len(record.sparse) > 0
            preflight.renamed += not layout.names.keys().isdisjoint(record.metadata)
            why = _objection(layout, reader.index.normalise(record), plan)
            if why is not None:
                preflight.refuse(move.source, record.id, why)
                refused(move.source, record.id, why)
    return preflight


def _objection(layout: Layout, record: Record, plan: Plan) -> str | None:
    """Say why a record, as the plan's map leaves it, can be no document. One that the map cannot change is parked."""
    mapped: MetadataMap | None = plan.policies.metadata_map
    if mapped is not None:
        metadata = mapped.applied(record.metadata, plan.policies.conflicts)
        if isinstance(metadata, Conflict):
            return None
        record = record.with_metadata(metadata)
    return layout.objection(record)


def _raise(findings: Findings, layout: Layout) -> None:
    """Raise BadPlan with what can be done about it."""
    raise BadPlan(
        "this cannot be planned; nothing was created:\n" + "\n".join(f"  · {problem}" for problem in findings.problems),
        next_step="give a key that is refused for its name another one: `--name-key _node_content=node_content`; leave "
        "a key out: `--drop KEY`; or have these records parked: `--refused park`",
    )


def _kind(fields: Mapping[str, Mapping[str, Any]]) -> Kind:
    types = {described.get("type") for described in fields.values()}
    if DENSE_TYPE not in types:
        return Kind.SPARSE
    return Kind.HYBRID if SPARSE_TYPE in types else Kind.DENSE


def _said(preflight: _Preflight, create: NewIndex | None, kind: Kind, survey: Survey) -> list[str]:
    said = [f"every record was read for this plan ({preflight.read:,}): what fits no document is named here"]
    if create is not None and kind is Kind.DENSE and survey.source.kind is Kind.HYBRID:
        said.append(
            "no record has sparse values, so the new index takes none; if some are to come: `--sparse-field NAME`"
        )
    if survey.source.kind is Kind.INTEGRATED:
        said.append(
            "the stored vectors are moved as they are: the new index embeds no text, so its writers and readers must"
        )
    return said
