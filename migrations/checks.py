"""Objections to a plan, and warnings about it. Pure: every fact was gathered before."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from migrations.embedding import Embedding
from migrations.embedding_checks import against_vectors
from migrations.findings import SHOWN, Findings, counted, few
from migrations.mapping import MARK
from migrations.ownership import OwnershipSnapshot
from migrations.plan import PlannedMove, Policies, Split
from migrations.survey import CommonIds, HeldNamespace, Survey
from vecfleet import names
from vecfleet.enriching import OWNER_KEYS
from vecfleet.errors import BadName
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.documents import Layout

# The number of aliases that one index may have, in every plan of the service, and the characters of their names.
ALIAS_QUOTA = 1_000
_ALIAS_NAME = re.compile(r"[A-Za-z0-9._~-]+")
# Standard and Enterprise; Starter has 100, Builder 1,000.
NAMESPACE_QUOTA = 100_000

DOCUMENTS = (
    "holds documents that are no vectors, or of which writing embeds its text again and not everything in it can be "
    "read back, so its records cannot be copied unchanged"
)
EITHER = (
    "a document index with dense and sparse values is searched by either, not by both: its answers cannot be compared "
    "with those of an index of vectors"
)
NO_ID_SOURCE = "is made of pods, which cannot list their ids: a plan needs an id source (--ids FILE)"


def check_indexes(survey: Survey, embedding: Embedding | None = None) -> Findings:
    """Check that the source can be read, and that the target can take its records, or their new vectors."""
    findings = Findings()
    source, target = survey.source, survey.target
    if source.kind is Kind.DOCUMENT:
        findings.problems.append(f"the index {source.name!r} {DOCUMENTS}")
    if source.kind is Kind.POD and survey.ids is None:
        findings.problems.append(f"the index {source.name!r} {NO_ID_SOURCE}")
    if target is None:
        return findings
    if not target.ready:
        findings.problems.append(f"the index {target.name!r} is not ready yet: wait a minute")
    if target.kind is Kind.POD:
        findings.problems.append(
            f"the index {target.name!r} is made of pods, which cannot list ids: what arrived could not be verified"
        )
    elif target.kind is Kind.DOCUMENT and not survey.same_index:
        findings.problems.append(f"the index {target.name!r} {DOCUMENTS}")
    elif embedding is not None:
        findings.add(against_vectors(embedding, source, target))
    elif not survey.same_index:
        findings.problems += _mismatches(source, target)
    return findings


def _mismatches(source: IndexInfo, target: IndexInfo) -> list[str]:
    problems = []
    for property_name, ours, theirs in (
        ("dimension", source.dimension, target.dimension),
        ("metric", source.metric, target.metric),
    ):
        if ours != theirs:
            problems.append(f"{property_name}: {source.name!r} has {ours}, {target.name!r} has {theirs}")
    if target.kind not in _fitting(source, target):
        problems.append(f"kind: {source.name!r} is {source.kind.value}, {target.name!r} is {target.kind.value}")
    return problems


def check_ids(moves: Sequence[PlannedMove], survey: Survey, policies: Policies, store: str) -> Findings:
    """Say which ids an index of Pinecone does not take, or takes in their ASCII form."""
    findings = Findings()
    beyond = sum(survey.namespaces[move.source].beyond_ascii for move in moves)
    if not beyond or not store.startswith("pinecone"):
        return findings
    total = sum(move.records for move in moves)
    ids = f"{counted(beyond, 'id')} of {total:,} {'holds' if beyond == 1 else 'hold'} characters other than ASCII"
    if policies.encoded_ids:
        findings.warnings.append(f"{ids}: at Pinecone they are encoded, as caf~0000e9 for café")
    else:
        findings.warnings.append(
            f"{ids}: Pinecone refuses these, and their records will be parked; `--encode-ids` takes them there "
            "encoded, and back again"
        )
    return findings


def check_queries(indexes: Iterable[IndexInfo | None], policies: Policies) -> Findings:
    """Check that answers of these indexes can be compared, where the plan is to compare some."""
    findings = Findings()
    layouts = [Layout.of(index) for index in indexes if index is not None]
    if policies.verify == "content+query" and any(layout is not None and layout.scores_by_either for layout in layouts):
        findings.problems.append(f"{EITHER}; `--verify content` compares every value of every record")
    return findings


def _fitting(source: IndexInfo, target: IndexInfo) -> set[Kind]:
    """Return the kinds whose records the target may hold."""
    if source.kind is Kind.SPARSE:
        return {Kind.SPARSE}
    if Layout.of(source) is None and Layout.of(target) is None:
        return {Kind.DENSE, Kind.HYBRID} if source.kind is Kind.POD else {source.kind}
    # An index of vectors says that it holds sparse values whether or not any record has some.
    return {Kind.DENSE, Kind.HYBRID, Kind.INTEGRATED}


def reachable_targets(
    snapshot: OwnershipSnapshot | None, policies: Policies, split: Split | None = None
) -> frozenset[str]:
    """Return the targets that the look-up gives to records that go to their owners, and those of records without a key.

    The records' metadata may add further targets.
    """
    targets = {policies.review} if policies.review is not None else set()
    if split is not None and split.otherwise is not None:
        targets.add(split.otherwise)
    owners = set(snapshot.ownership.twins.values()) if snapshot is not None else set()
    for owner in owners:
        try:
            targets.add(names.build(owner.creator, owner.twin))
        except BadName:
            continue  # its records will be parked with this error as the reason
    return frozenset(targets)


def check_targets(
    moves: Sequence[PlannedMove],
    survey: Survey,
    policies: Policies,
    reachable: Collection[str] = frozenset(),
    quota: int = NAMESPACE_QUOTA,
    *,
    takes_back: bool = False,
) -> Findings:
    """Check that the targets are empty, are neither sources nor aliases, and fit the quota of namespaces.

    `takes_back`: the job removes aliases that a plan left under the old names and that lead to this plan's sources.
    """
    findings = Findings()
    targets = {move.to for move in moves if move.to is not None}
    if any(move.is_divided for move in moves):
        targets |= set(reachable)
    findings.problems += _unfit(targets)
    counts = {name: survey.occupied[name].records for name in targets if name in survey.occupied}
    occupied = {name for name, records in counts.items() if records}
    if occupied:
        total = sum(counts[name] for name in occupied)
        # Under `dual` the application writes to both sides, so records at the targets are its own; and what stands in
        # an index that the service made from the source is the source's.
        stops = policies.collisions == "fail" and policies.writers != "dual" and not policies.prefilled
        findings.found(
            f"{counted(len(occupied), 'target')} not empty ({counted(total, 'record')} there): {few(occupied)}"
            + (
                "; choose another name, or say what happens to ids that are there already: `--collisions skip`, "
                "`prefix` or `identical`"
                if stops
                else f"; an id that is there already: {policies.collisions}"
            ),
            stops=stops,
        )
    if policies.writers == "dual":
        findings.add(_check_dual(moves, policies))
    findings.add(_taken_by_aliases(moves, targets, survey.aliases, takes_back=takes_back))
    if survey.same_index:
        findings.problems += _chains(moves, targets)
    if policies.leave_alias:
        findings.add(_check_aliases(moves, survey, survey.aliases))
    findings.add(_check_quota(moves, survey, reachable, quota))
    return findings


def _unfit(targets: Collection[str]) -> list[str]:
    """Object to names that no namespace can have."""
    objections = sorted(filter(None, map(names.objection, targets)))
    hidden = len(objections) - SHOWN
    return objections[:SHOWN] + ([f"{hidden:,} more names of this kind"] if hidden > 0 else [])


def _taken_by_aliases(
    moves: Sequence[PlannedMove], targets: Collection[str], aliases: Mapping[str, str], *, takes_back: bool
) -> Findings:
    """Check names against aliases: an alias leads to another namespace, so none can be created under its name."""
    findings = Findings()
    sources = {move.source for move in moves}
    taken = {name for name in targets if name in aliases}
    left = {name for name in taken if takes_back and aliases[name] in sources}
    if left:
        findings.warnings.append(
            f"these names are aliases that lead to this plan's sources: {few(left)}; the job removes each alias right "
            "before it creates the namespace, and readers of the name then find the records copied so far"
        )
    if taken - left:
        led = [f"{name!r} (leads to {aliases[name]!r})" for name in sorted(taken - left)]
        findings.problems.append(
            f"no namespace can be created under the name of an alias: {few(led, quoted=False)}; remove it first"
        )
    return findings


def _check_dual(moves: Sequence[PlannedMove], policies: Policies) -> Findings:
    findings = Findings()
    if policies.collisions == "prefix":
        findings.problems.append("an application that writes to both sides knows no prefixes: choose other collisions")
    unowned = [move.source for move in moves if not move.by_owner and move.creator is None]
    if unowned:
        findings.warnings.append(
            "our client writes to both sides only for namespaces of a tenant; the application itself must write to "
            "both sides of these: " + few(unowned)
        )
    return findings


def _check_aliases(moves: Sequence[PlannedMove], survey: Survey, aliases: Collection[str]) -> Findings:
    findings = Findings()
    if not survey.same_index:
        findings.problems.append("an alias leads to a namespace of its own index only: none can lead to another index")
        return findings
    without = [move.source for move in moves if move.to is None or names.canonical(move.source) == names.DEFAULT]
    if without:
        findings.warnings.append(
            f"no alias is left for sources that go to several places, or for the default: {few(without)}"
        )
    leaving = {move.source for move in moves} - set(without)
    unfit = sorted(name for name in leaving if not _ALIAS_NAME.fullmatch(name))
    if unfit:
        findings.problems.append(
            f"an alias has only letters, digits and . _ ~ - in its name, so none can be left for {few(unfit)}: "
            "leave no aliases, or move these in a plan of their own"
        )
    total = len(leaving | set(aliases))
    if total > ALIAS_QUOTA:
        findings.problems.append(
            f"the index would have {total:,} aliases, {len(aliases):,} of them there already; its quota is "
            f"{ALIAS_QUOTA:,}: leave no aliases, or remove those that nobody uses"
        )
    findings.warnings.append("between a namespace's deletion and its alias, readers of the old name get empty answers")
    return findings


def _check_quota(moves: Sequence[PlannedMove], survey: Survey, reachable: Collection[str], quota: int) -> Findings:
    findings = Findings()
    there = set(survey.occupied)
    named = {move.to for move in moves if move.to is not None} - there
    divided = sum(move.records for move in moves if move.is_divided)
    surely = len(there) + len(named)
    perhaps = surely + min(divided, len(set(reachable) - there - named))
    if surely > quota:
        findings.problems.append(
            f"the target index would hold {surely:,} namespaces, old and new together; its quota is {quota:,}: "
            "move them in several plans, cleaning up in between"
        )
    elif perhaps > quota:
        findings.warnings.append(
            f"the target index may come to hold {perhaps:,} namespaces, if every owner has records; "
            f"its quota is {quota:,}"
        )
    return findings


def _chains(moves: Sequence[PlannedMove], targets: Collection[str]) -> list[str]:
    sources = {move.source: move for move in moves}
    chained = sorted(name for name in targets if name in sources)
    circular = [name for name in chained if sources[name].to in sources]
    if circular:
        return [f"these namespaces are to take each other's names: {few(circular)}; move one of them elsewhere first"]
    if chained:
        return [
            f"these namespaces are the target of one move and the source of another: {few(chained)}; "
            "plan them one after the other"
        ]
    return []


def check_schemas(moves: Sequence[PlannedMove], survey: Survey, schema_from: str | None) -> Findings:
    """Check that sources that share a target agree on the target's filterable fields."""
    findings = Findings()
    if schema_from is not None and schema_from not in survey.namespaces:
        findings.problems.append(f"the filterable fields are to be those of {schema_from!r}, which is no source")
    anywhere = [move.source for move in moves if move.by_owner]
    splitting = [move for move in moves if move.template is not None]
    by_target: dict[str, list[str]] = {}
    for move in moves:
        if move.to is not None:
            meeting = [split.source for split in splitting if split.may_reach(move.to)]
            by_target.setdefault(move.to, [*anywhere, *meeting]).append(move.source)
    groups = [*by_target.values(), [*anywhere, *(move.source for move in splitting)]]
    differing = {
        tuple(sources)
        for sources in groups
        if len({_fields(survey.namespaces[source].schema) for source in sources}) > 1
    }
    if differing and schema_from is None:
        findings.problems.append(
            "these sources share a target but filter by different fields: "
            + "; ".join(few(sources) for sources in sorted(differing)[:3])
            + "; name the one whose fields the target gets (schema-from)"
        )
    for target in sorted(by_target):
        there = survey.occupied.get(target)
        wanted = (
            survey.namespaces[schema_from or by_target[target][-1]]
            if schema_from in (None, *survey.namespaces)
            else None
        )
        if there is not None and wanted is not None and _fields(there.schema) != _fields(wanted.schema):
            findings.warnings.append(
                f"{target!r} exists and filters by other fields than its source: its fields stay as they are"
            )
    return findings


def check_map(moves: Sequence[PlannedMove], policies: Policies, sample: Sequence[Record]) -> Findings:
    """Check the metadata map against the moves and a sample of the records.

    Warn of keys that no sampled record has; if the map cannot be undone; and name the values that travel for that.
    """
    findings, asked = Findings(), policies.metadata_map
    if asked is None:
        return findings
    if policies.writers == "dual":
        findings.problems.append(
            "an application that writes to both sides does not know the metadata map: use `--writers delta` or freeze"
        )
    owners = (asked.writes | asked.removes) & OWNER_KEYS
    if owners and any(move.creator is not None or move.to is None for move in moves):
        findings.problems.append(f"the metadata map changes keys that this plan writes itself: {few(owners)}")
    elif owners:
        findings.warnings.append(
            f"the metadata map changes {few(owners)}, by which a tenant's records are known where tenants share a "
            "namespace, also by `vecfleet forget`"
        )
    there = {key for record in sample for key in record.metadata}
    if sample and (absent := {*asked.reads, *asked.drop} - there):
        findings.warnings.append(
            f"none of the {counted(len(sample), 'record')} looked at has {few(absent)}, which the metadata map reads "
            f"or drops; they have {few(there) if there else 'no metadata'}"
        )
    if not asked.travels:
        findings.warnings.append(
            "the metadata map cannot be taken back: records do not carry the values "
            "that it drops or replaces, and none shows that it was mapped"
        )
    elif asked.drop:
        findings.warnings.append(
            f"the values of {few(asked.drop)} stay in each record that has them, under {MARK!r}, so that the map "
            "can be taken back; `--map-undo none` leaves them out for good"
        )
    return findings


def check_common_ids(common: Mapping[str, CommonIds], policies: Policies) -> Findings:
    """Check that sources that share a target do not overwrite one another."""
    findings = Findings()
    for target, ids in sorted(common.items()):
        if ids.count:
            findings.found(
                f"{counted(ids.count, 'id')} would arrive in {target!r} more than once: {few(ids.examples)}"
                + ("" if policies.collisions == "fail" else f"; what happens to them: {policies.collisions}"),
                stops=policies.collisions == "fail",
            )
    return findings


def drop_no_ops(moves: Iterable[PlannedMove], survey: Survey) -> tuple[list[PlannedMove], Findings]:
    """Leave out moves of a namespace to itself."""
    findings = Findings()
    kept = list(moves)
    if survey.same_index:
        idle = [move.source for move in kept if move.to == move.source]
        kept = [move for move in kept if move.to != move.source]
        if idle:
            findings.warnings.append(f"these are already where they should be: {few(idle)}")
    return kept, findings


def sharing_groups(moves: Iterable[PlannedMove], occupied: Mapping[str, HeldNamespace]) -> dict[str, list[str]]:
    """Return the sources of each target that several named sources share, or that holds records already."""
    by_target: dict[str, list[str]] = defaultdict(list)
    for move in moves:
        if move.to is not None:
            by_target[move.to].append(move.source)
    return {
        target: sources
        for target, sources in by_target.items()
        if len(sources) > 1 or (target in occupied and occupied[target].records)
    }


def _fields(schema: Mapping[str, Any] | None) -> str:
    return repr(sorted((schema or {}).items(), key=str))
