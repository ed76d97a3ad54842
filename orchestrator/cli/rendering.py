"""Plans, audits and reports as text."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from migrations.analysis import Breakdown
from migrations.auditing import IndexAudit
from migrations.embedding import Embedding
from migrations.findings import few
from migrations.plan import Plan, PlannedMove, Policies, TextCost
from orchestrator.cli.mapping import say_map
from orchestrator.cli.output import say, say_table
from orchestrator.core.following import of_plan
from orchestrator.core.guards import watching
from orchestrator.core.progress import proof
from orchestrator.core.wording import (
    a_month,
    counted,
    creation,
    duration,
    elapsed,
    in_namespaces,
    read_for,
    sides,
    spoken,
)
from orchestrator.ledger.deletions import DeletionEvidence
from orchestrator.ledger.embeddings import Spent as TextsSpent
from orchestrator.services.issues import ENDED_BY_A_PERSON
from orchestrator.services.report import QUERY_TEST, Report, sizes, way_back
from vecfleet.names import Tenant
from vecfleet.stores.base import IndexInfo


def indexes(found: Iterable[IndexInfo]) -> None:
    say_table(
        ("index", "kind", ">dimension", "metric", "host"),
        ((info.name, info.kind, info.dimension, info.metric, info.host) for info in found),
    )


def index_audit(audit: IndexAudit) -> None:
    say(f"\n{audit.info.name}: {in_namespaces(audit.records, len(audit.namespaces))}", style="bold")
    say_table(
        ("namespace", ">records", ">share", "reads as"),
        (
            (
                held.name,
                f"{held.records:,}" if held.exact else f"~{held.records:,}",
                f"{100 * held.share:.1f} %",
                _tenant(held.tenant),
            )
            for held in sorted(audit.namespaces, key=lambda held: (-held.records, held.name))
        ),
    )
    _metadata(audit)
    say(f"room for {counted(audit.room, 'more namespace', 'more namespaces')} (quota {audit.quota:,})")
    if audit.unparsed:
        names = counted(len(audit.unparsed), "name is", "names are")
        say(f"{names} no tenant's: not creator_{{id}}, creator_{{id}}_twin_{{id}} or public")
    say(f"this look cost {read_for(audit.usage.read_units, audit.usage.requests)}")


def _metadata(audit: IndexAudit) -> None:
    """Print the metadata keys of a sample of records, over all namespaces."""
    sampled = [held.keys.types for held in audit.namespaces if held.keys.types]
    keys = sorted({key for types in sampled for key in types})
    if keys:
        say_table(
            ("metadata (sampled)", "holds", ">in namespaces"),
            (
                (
                    key,
                    " or ".join(sorted({name for types in sampled for name in types.get(key, ())})),
                    f"{sum(key in types for types in sampled):,} of {len(sampled):,}",
                )
                for key in keys
            ),
        )


def _tenant(tenant: Tenant | None) -> str:
    if tenant is None:
        return "—"
    return f"creator {tenant.creator}" + (f", twin {tenant.twin}" if tenant.twin else "")


def breakdown(found: Breakdown) -> None:
    say(f"{found.namespace}: {counted(found.records, 'record', 'records')}", style="bold")
    say_table((">records", "go to"), ((f"{n:,}", name) for name, n in found.targets.most_common()))
    say("decided by: " + (", ".join(f"{rule} {n:,}" for rule, n in found.rules.most_common()) or "nothing"))
    for reason, n in found.orphans.most_common():
        say(f"{n:,} without a target: {reason}", style="yellow")
    if found.orphan_ids:
        say(f"  for example {', '.join(found.orphan_ids)}")
    if found.brought:
        say(f"{found.brought:,} hold another value in 'migrated_from' already (it is overwritten and remembered)")
    for key, n in found.conflicts.most_common():
        say(f"{n:,} hold another value in {key!r} already (the plan's --conflicts decides)", style="yellow")
    say(f"this look cost {read_for(found.usage.read_units, found.usage.requests)}")


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{share:.1%}"


_IN_THE_LINE = {
    *("writers", "conflicts", "collisions", "orphans", "verify", "cut_over", "clean_up", "exclusive"),
    *("dwell_seconds", "soak_seconds"),
    *("metadata_map", "embedding", "encoded_ids", "window", "bulk"),
}


def plan(found: Plan) -> None:
    policies = found.policies
    say(f"{found.recipe}: {' → '.join(sides(found))}", style="bold")
    if found.create_target:
        say(creation(found.create_target))
    if found.target.fields:
        say(f"its fields: {' · '.join(f'{name} ({_field(field)})' for name, field in found.target.fields.items())}")
    for index in (found.source, found.target):
        if index.names:
            named = " · ".join(f"{key} → {name}" for key, name in index.names.items())
            say(f"names of metadata keys in {index.index}: {named}")
    moves(found)
    if policies.metadata_map is not None:
        say_map(policies.metadata_map, backward=bool(found.takes_back))
    if policies.encoded_ids:
        say("ids at Pinecone: the ASCII forms of those at the other side, reversibly; café is caf~0000e9")
    if policies.embedding is not None:
        _embedding(policies.embedding, asked=policies.verify == "content+query")
    if left_alone := set(found.left_alone) - found.old_namespaces:  # records go back to the old ones
        say(f"left alone: {few(left_alone, quoted=False)}")
    for warning in found.warnings:
        say(f"warning: {warning}", style="yellow")
    say(
        f"policies: writers {policies.writers} · conflicts {policies.conflicts} · collisions {policies.collisions} · "
        f"orphans {policies.orphans} · verify {policies.verify} · cut over {policies.cut_over}"
        f"{_watching(policies)} · soak {duration(policies.soak_seconds)} · clean up {policies.clean_up} · "
        f"{'exclusive' if policies.exclusive else 'shared'} index"
        + (f" · batches begin {policies.window}" if policies.window else "")
        + (", writers stay out at all hours" if policies.window and policies.writers == "freeze" else "")
    )
    writers(found)
    if others := policies.model_dump(exclude=_IN_THE_LINE, exclude_defaults=True):
        say("also: " + " · ".join(_policy(name, value) for name, value in others.items()))
    estimate(found)
    if found.command:
        say(f"made by: vecfleet {shlex.join(found.command)}")
    say(f"digest {found.digest}")


def _watching(policies: Policies) -> str:
    """Say how long readers are watched; nothing of a plan that moves none, unless the time was chosen."""
    if policies.cut_over == "none" and policies.dwell_seconds == Policies().dwell_seconds:
        return ""
    return f" · {watching(policies) or 'readers are watched at no step'}"


def writers(found: Plan) -> None:
    """Say what keeps writers off the sources, if anything does."""
    if said := of_plan(found):
        say(f"writers: {said}")


def _embedding(embedding: Embedding, *, asked: bool) -> None:
    card, gate = embedding.card, embedding.gate
    without = "parked" if embedding.without_text == "park" else "copied, if its vector has the new dimension"
    rows = f" in {embedding.rows.name}" if embedding.rows is not None else ""
    by = "the target itself, by " if embedding.integrated else ""
    say(
        f"vectors: {by}{card.name} ({card.revision}), {card.dimension:,} dimensions, of {embedding.text!r}{rows} · a "
        f"record without text is {without} · a text too long is {'cut' if embedding.too_long == 'cut' else 'parked'}"
        + (f" · the old model is {embedding.old.name}" if embedding.old is not None else "")
        + (f" · what is kept is encrypted by the key {embedding.cache_key}" if embedding.cache_key is not None else "")
    )
    if gate.file is not None:
        places = counted(len(gate.counts), "namespace", "namespaces")
        what = f"{counted(sum(gate.counts.values()), 'question', 'questions')} of {gate.file} about {places}"
    else:
        what = "sampled records, asked by their old and their new vectors"
    bounds = f"mean recall at least {gate.least_recall:.0%}, mean overlap at least {gate.least_overlap:.0%}"
    say(f"quality: {what}: {bounds}" if asked else "quality: not judged, because no questions are named (--questions)")


def _field(described: Mapping[str, Any]) -> str:
    """Return what a field of a schema holds, in the service's words."""
    if "full_text_search" in described:
        return "full text"
    return str(described.get("type", "filterable")).replace("_", " ")


def _policy(name: str, value: object) -> str:
    if name == "enrich":
        return "nothing is added to the records"
    if name.endswith("_seconds"):
        return f"{name.removesuffix('_seconds')} {duration(float(str(value)))}"
    said = name.replace("_", " ")
    return f"{said} {value}" if not isinstance(value, bool) else said if value else f"no {said}"


def moves(found: Plan) -> None:
    say_table(
        ("from", "to", ">records", ">read units", ">write units"),
        ((move.source, _target(found, move), f"{move.records:,}", *_shares(found, move)) for move in found.moves),
    )
    if found.split is not None:
        lacking = f"go to {found.split.otherwise}" if found.split.otherwise is not None else "are parked"
        say(f"records without {found.split.key}: {lacking}")
    if found.takes_back:
        say(f"back to: {few(found.takes_back, quoted=False)}")


def _target(reviewed: Plan, move: PlannedMove) -> str:
    if reviewed.split is not None and move.template is not None:
        return f"{move.template}, by {reviewed.split.key}"
    return move.to or ("(where each came from)" if reviewed.takes_back else "(each record's owner)")


def _shares(reviewed: Plan, move: PlannedMove) -> tuple[str, str]:
    """Return a move's part of the estimate, by its records."""
    part = move.records / reviewed.records if reviewed.records else 0.0
    return f"~{reviewed.estimate.read_units * part:,.0f}", f"~{reviewed.estimate.write_units * part:,.0f}"


def estimate(found: Plan) -> None:
    total = found.estimate
    say(
        f"estimate: {in_namespaces(total.records, len(found.moves))} · "
        f"{counted(total.requests, 'request', 'requests')} · "
        f"{counted(round(total.read_units), 'read unit', 'read units')} · "
        f"{counted(round(total.write_units), 'write unit', 'write units')} · "
        f"{total.egress_bytes / 1e6:,.1f} MB egress · ${total.dollars:,.4f} · {duration(total.seconds)}"
    )
    if total.monthly is not None:
        say(a_month(total.monthly))
    if (texts := total.embedding) is not None:
        say(
            f"embedding: about {texts.distinct:,} different texts of {texts.texts:,} · "
            f"{'' if texts.counted else 'about '}{texts.tokens:,} tokens · ${texts.dollars:,.4f}{_by(found)} · "
            f"{duration(texts.seconds)} at the model's limits"
        )


def _by(found: Plan) -> str:
    """Say where the price of the texts comes from, unless a person named it or there is none."""
    embedding = found.policies.embedding
    if embedding is None or embedding.card.is_local:
        return ""
    card = embedding.card
    if not card.dollars_per_million_tokens:
        return " by no price, because none is known (--price names one)"
    from vecfleet.embedders.services import PRICES_OF, SERVICES  # loads an HTTP client and NumPy

    service = SERVICES.get(card.provider)
    listed = None if service is None else service.known(card.model, card.endpoint)
    if listed is None or listed.limits["dollars_per_million_tokens"] != card.dollars_per_million_tokens:
        return ""
    return f" by the list price of {PRICES_OF} (--price names yours)"


def deletions(found: Sequence[DeletionEvidence]) -> None:
    """Print the looks that deletions rest on; `!` marks one made before reads showed the last permitted write."""

    def at(moment: datetime | None) -> str:
        return "—" if moment is None else f"{moment:%H:%M:%S}"

    say_table(
        ("", "source", "last write", ">lag", "fresh from", "read", "listed", ">ids", "asked for", "how"),
        (
            (
                *(" " if look.is_fresh else "!", look.source, at(look.last_write_at), elapsed(look.lag_s)),
                *(at(look.fresh_from), f"{at(look.read_from)}–{at(look.read_to)}", at(look.listed_at)),
                *("—" if look.listed is None else f"{look.listed:,}", f"{at(look.asked_from)}–{at(look.asked_to)}"),
                "by ids" if look.clean_mode == "by_ids" else "whole",
            )
            for look in found
        ),
    )


def _embedded(planned: TextCost | None, spent: TextsSpent) -> list[tuple[str, str, str]]:
    if planned is None:
        return []
    return [
        ("  texts embedded", f"{planned.distinct:,}", f"{spent.texts:,}"),
        ("  tokens", f"{planned.tokens:,}", f"{spent.tokens:,}"),
        *([("  and perhaps, unanswered", "", f"{spent.unanswered:,}")] if spent.unanswered else []),
    ]


def report(found: Report) -> None:
    job, totals, spent, planned = found.job, found.reading.totals, found.spent, found.job.estimate
    say(f"Job {job.id} {spoken(job.state)}: {' → '.join(job.sides)}", style="bold")
    followed = totals.gone if job.policies.quiet_passes else 0  # deleted at the source while the targets followed it
    if job.state in ENDED_BY_A_PERSON and job.reason:
        say(f"  ended               {job.reason}")
    say(f"  moved and verified  {found.verdicts.records:,} of {totals.expected - followed:,} records")
    namespaces, vectors = sizes(found)
    say(f"  namespaces          {namespaces}")
    say(f"  vectors             {vectors}")
    say(
        f"  parked {totals.parked:,} · left behind {totals.left_behind:,} · gone {totals.gone:,} · "
        f"erased {totals.erased:,} · deleted from the source {totals.deleted:,}"
    )
    if followed:
        deleted = counted(followed, "record that the application deleted", "records that the application deleted")
        say(f"  gone                {deleted} at its source, and a pass followed it")
    say(
        f"  verdicts            {found.verdicts.verified:,} verified · {found.verdicts.mismatched:,} differ · "
        f"{found.verdicts.unverified:,} not verified"
        + (f" · {found.verdicts.empty:,} empty" if found.verdicts.empty else "")
    )
    if said := proof(found.reading):
        say(f"  proven              {said}")
    say_table(
        ("  ", ">estimated", ">actual"),
        (
            ("  time", elapsed(planned.seconds), elapsed(found.seconds)),
            ("  requests", f"{planned.requests:,}", f"{spent.requests:,}"),
            ("  read units", f"{planned.read_units:,.0f}", f"{spent.read_units:,.0f}"),
            ("  write units", f"{planned.write_units:,.0f}", f"{spent.write_units:,.0f}"),
            ("  egress MB", f"{planned.egress_bytes / 1e6:,.1f}", f"{spent.egress_bytes / 1e6:,.1f}"),
            ("  dollars", f"{planned.dollars:,.4f}", f"{found.dollars:,.4f}"),
            *_embedded(planned.embedding, found.embedded),
        ),
    )
    if found.asked:
        say(f"  queries             {found.tests[QUERY_TEST]}")
    if found.asked and job.policies.embedding is None:
        say(
            f"                      P50 {found.asked.new_p50_ms:.0f} ms, {found.asked.old_p50_ms:.0f} ms on the old "
            f"side; agreement {_percent(found.asked.overlap_mean)} on average, scores to {found.asked.drift_mean:.2g}"
        )
    if found.since.total:
        say(f"  at targets since    {found.since}")
    for issue in found.issues:
        say(f"  issue: {issue}", style="yellow")
    if found.deletions.sources:
        say(f"  evidence            {found.deletions}")
    say(f"  way back            {way_back(found)}")
    say(f"  audit head          {found.audit_head or '(nothing is sealed yet)'}")
