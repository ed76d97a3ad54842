"""Objections to a plan that embeds, and warnings about it. Pure: every fact was gathered before."""

from collections.abc import Sequence

from migrations.embedding import Embedding, NoText, without_text
from migrations.findings import Findings, few
from migrations.plan import PlannedMove, Policies
from migrations.survey import Survey
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind


def against_vectors(embedding: Embedding, source: IndexInfo, target: IndexInfo) -> Findings:
    """Check that a target can hold the vectors of a model."""
    findings = Findings()
    like = embedding.made(source)
    if embedding.integrated:
        findings.problems += _against_fields(embedding, like, target)
        return findings
    if target.dimension != like.dimension:
        findings.problems.append(
            f"dimension: {embedding.card.name} gives {like.dimension}, {target.name!r} has {target.dimension}; "
            "another --dimension may fit, or a new index"
        )
    if target.kind is not like.kind:
        findings.problems.append(f"kind: {target.name!r} is {target.kind.value}; what is written is {like.kind.value}")
    if target.metric != like.metric:
        findings.warnings.append(
            f"{target.name!r} compares by {target.metric}, and models are trained for {like.metric}: for vectors of "
            "length 1 a dot product orders the same, anything else does not"
        )
    return findings


def _against_fields(embedding: Embedding, like: IndexInfo, target: IndexInfo) -> list[str]:
    """Return why a target does not embed these texts by this model."""
    if target.kind is not Kind.INTEGRATED:
        return [f"kind: {target.name!r} is {target.kind.value}, and embeds no text itself: leave --integrated out"]
    ((field, wanted),) = like.schema["fields"].items()
    embedded = {name: held for name, held in target.schema["fields"].items() if held.get("type") == wanted["type"]}
    if field not in embedded:
        return [f"{target.name!r} embeds the field {few(embedded)}, and --text-key names {field!r}"]
    if embedded[field].get("model") != wanted["model"]:
        return [f"{target.name!r} embeds with {embedded[field].get('model')}, and the plan names {embedding.card.name}"]
    return []


def _against_integrated(embedding: Embedding, source: IndexInfo, policies: Policies) -> list[str]:
    """Return what a target that embeds texts itself cannot do."""
    wishes = {
        "--text or --text-from: it embeds one field of the metadata": embedding.text != f"{{{embedding.keys[0]}}}"
        or embedding.rows is not None,
        "--without-text copy: every record has its text embedded": embedding.without_text == "copy",
        "--too-long cut: it cuts or refuses as its own field says": embedding.too_long == "cut",
        "--dollars-cap: the service bills each write, and says so later": embedding.dollars_cap is not None,
        "--verify content+query without questions: its vectors are its own": policies.verify == "content+query"
        and embedding.gate.file is None,
        f"sparse values, which {source.name!r} has": source.kind is Kind.HYBRID,
        "--encode-ids: texts are written with their ids as they are": policies.encoded_ids,
    }
    return [f"an index that embeds texts itself allows no {wish}" for wish, asked in wishes.items() if asked]


def check_embedding(
    embedding: Embedding,
    survey: Survey,
    moves: Sequence[PlannedMove],
    policies: Policies,
    sample: Sequence[Record],
    texts: Sequence[str | NoText],
) -> Findings:
    """Check that a sample has texts to embed, and that no policy compares vectors of two models."""
    findings = Findings()
    if survey.source.kind is Kind.SPARSE:
        findings.problems.append(
            f"the index {survey.source.name!r} holds sparse values only, and a model of dense vectors does not replace "
            "them: make an index of both kinds, and let the application write to it"
        )
    if policies.writers == "dual":
        findings.problems.append(
            "an application that writes to both sides makes its own vectors of the new model, and no two requests for "
            "one are sure to give the same: use `--writers delta` or freeze"
        )
    if embedding.integrated:
        findings.problems += _against_integrated(embedding, survey.source, policies)
        findings.warnings.append(
            "the target's vectors are the service's own: they are proven by id, metadata and text, and a record that "
            "is written twice has its text embedded, and billed, twice"
        )
    old, dimension = embedding.old, survey.source.dimension
    if policies.shadow_share and old is None:
        findings.problems.append(
            "shadow reads ask each side in its own model, and the old one is not named: name it (--old-model), and ask "
            "by text in the application"
        )
    if old is not None and dimension is not None and old.dimension != dimension:
        findings.problems.append(
            f"--old-model: {old.name} gives {old.dimension:,} dimensions, and the index {survey.source.name!r} has "
            f"{dimension:,}"
        )
    lacking = without_text(embedding, sample, texts)
    if lacking and sum(lacking.values()) == len(sample) and embedding.rows is not None:
        findings.problems.append(
            f"no record of {len(sample)} has text: {next(iter(lacking))}; its rows are found by the ids of the records "
            f"in the column {embedding.rows.id!r} (--text-id)"
        )
    elif lacking and sum(lacking.values()) == len(sample):
        keys = sorted({key for record in sample for key, value in record.metadata.items() if isinstance(value, str)})
        findings.problems.append(
            f"no record of {len(sample)} has text: {next(iter(lacking))}; keys that hold text there: {few(keys)}"
        )
    for reason, count in sorted(lacking.items()):
        findings.warnings.append(f"{count} of {len(sample)} sampled records would be parked: {reason}")
    asked = embedding.gate.counts
    sources = {move.source for move in moves}
    if strangers := sorted(asked.keys() - sources):
        findings.problems.append(f"there are questions about what is not embedded: {few(strangers)}")
    if asked and (unasked := sorted(sources - asked.keys())):
        findings.warnings.append(f"no question is about {few(unasked)}: their quality is not judged")
    if policies.verify != "content+query":
        findings.warnings.append(
            "the quality of the new vectors is not judged: name questions (--questions), or compare the neighbours of "
            "sampled records in both models (--verify content+query)"
        )
    findings.warnings.append(
        "the old vectors do not travel: once the source is cleaned up, only an export or a backup of it has them "
        "(`vecfleet plan export`), or its old model makes them again"
    )
    return findings
