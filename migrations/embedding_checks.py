"""Objections to a plan that embeds, and warnings about it. Pure: every fact was gathered before."""

from collections.abc import Sequence

from migrations.embedding import Embedding, without_text
from migrations.findings import Findings, few
from migrations.plan import PlannedMove, Policies
from migrations.survey import Survey
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind


def against_vectors(embedding: Embedding, source: IndexInfo, target: IndexInfo) -> Findings:
    """Check that a target can hold the vectors of a model."""
    findings = Findings()
    like = embedding.made(source)
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


def check_embedding(
    embedding: Embedding, survey: Survey, moves: Sequence[PlannedMove], policies: Policies, sample: Sequence[Record]
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
            "one are sure to give the same: say `--writers delta` or freeze"
        )
    if policies.shadow_share:
        findings.problems.append("shadow reads ask both sides with one vector, and these have two models: ask for none")
    lacking = without_text(embedding, sample)
    if lacking and sum(lacking.values()) == len(sample):
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
