"""Analyse a shared namespace before anything moves: the owners of its records, the rules that name them, the orphans.

A full scan: 1 read unit for every 100 ids and for every 10 records. Nothing is written.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from migrations.enriching import SOURCE, Conflict, change, enrich
from migrations.findings import Findings, counted, few
from migrations.plan import PlannedMove, Policies, Split
from migrations.reading import Reader
from migrations.routing import Routed, Router, Rule, Unrouted
from vecfleet import names
from vecfleet.errors import NotFound
from vecfleet.patience import patiently
from vecfleet.records import MetadataValue, Record
from vecfleet.stores.base import Usage

SAMPLE_IDS = 10
KEEPING = "`--conflicts keep` moves them with what they hold"


@dataclass(slots=True)
class MetadataKeys:
    """The metadata keys that records hold, with the number of values of each type."""

    types: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        for key, value in record.metadata.items():
            self.types.setdefault(key, Counter())[type_name(value)] += 1


@dataclass(slots=True)
class Breakdown:
    """The outcome of routing the records of one namespace.

    `targets` and `rules` count the records that have a target; `orphans` counts those that have none, by reason.
    `conflicts` counts, by key, records that hold another value in an enriched key already. `brought` counts records
    whose metadata name another origin. The ids are the first few.
    """

    namespace: str
    records: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    rules: Counter[Rule] = field(default_factory=Counter)
    orphans: Counter[str] = field(default_factory=Counter)
    orphan_ids: list[str] = field(default_factory=list)
    conflicts: Counter[str] = field(default_factory=Counter)
    conflict_ids: list[str] = field(default_factory=list)
    brought: int = 0
    keys: MetadataKeys = field(default_factory=MetadataKeys)
    usage: Usage = field(default_factory=Usage)


def analyze(reader: Reader, namespace: str, router: Router) -> Breakdown:
    """Route every record of a shared namespace as a job would. Raises NotFound, or the store's error."""
    name = names.canonical(namespace)
    if patiently(lambda: reader.index.namespace(name)) is None:
        there = patiently(lambda: [held.name for held in reader.index.namespaces()])
        index = reader.index.info.name
        raise NotFound(
            f"there is no namespace {name!r} in {index!r}{names.meant(name, there)}",
            next_step=f"`vecfleet audit {index}` lists those there are",
        )
    result = Breakdown(name)
    for record in reader.records(name, reader.ids(name)):
        _add(result, record, router)
    result.usage = reader.usage
    return result


def foresee(found: Breakdown, policies: Policies, split: Split | None = None) -> Findings:
    """Warn a reviewer of the plan about these records before they move."""
    findings = Findings()
    scope = f"of the {counted(found.records, 'record')} of {found.namespace!r}, "
    orphans, to_review = sum(found.orphans.values()), found.rules["review"]
    if split is not None:
        for reason, number in found.orphans.most_common():
            findings.warnings.append(f"{scope}{number:,} will be parked, for a person to decide: {reason}")
        if found.rules["otherwise"]:
            findings.warnings.append(
                f"{scope}{found.rules['otherwise']:,} lack {split.key!r}: they go to {split.otherwise!r}"
            )
    elif orphans:
        findings.warnings.append(
            f"{scope}{orphans:,} have no owner to go to: they will be parked, for a person to decide"
        )
    if to_review:
        findings.warnings.append(f"{scope}{to_review:,} have no owner: they go to {policies.review_namespace!r}")
    if found.brought:
        findings.warnings.append(
            f"{scope}{found.brought:,} hold another value under {SOURCE!r} already: it is overwritten and remembered"
        )
    for key, records in sorted(found.conflicts.items()):
        outcome = {
            "fail": f"they will be parked; {KEEPING}",
            "keep": "it stays",
            "overwrite": "it is overwritten and remembered",
        }
        findings.warnings.append(
            f"{scope}{records:,} hold another value under {key!r} already: {outcome[policies.conflicts]}"
        )
    return findings


def foresee_conflicts(
    sample: Iterable[tuple[str, Record]], moves: Iterable[PlannedMove], router: Router, policies: Policies
) -> Findings:
    """Warn of sampled records that the plan would park because they hold another value under a key that it writes."""
    findings, by_source = Findings(), {move.source: move for move in moves}
    looked, keys = 0, Counter[str]()
    for source, record in sample:
        routed = router.route(record, by_source[source]) if source in by_source else None
        if isinstance(routed, Routed):
            looked += 1
            outcome = change(record, source, routed, policies)
            if isinstance(outcome, Conflict):
                keys[outcome.key] += 1
    if keys:
        findings.warnings.append(
            f"of {counted(looked, 'record')} looked at, {keys.total():,} hold another value under {few(keys)} already: "
            f"such records will be parked; {KEEPING}"
        )
    return findings


def type_name(value: MetadataValue) -> str:
    """Return the vector stores' own word for the type of a metadata value."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "list of strings"


def _add(result: Breakdown, record: Record, router: Router) -> None:
    result.records += 1
    result.keys.add(record)
    routed = router.route(record, PlannedMove(source=result.namespace, records=0))
    if isinstance(routed, Unrouted):
        result.orphans[routed.reason] += 1
        _keep_first(result.orphan_ids, record)
        return
    result.targets[routed.target] += 1
    result.rules[routed.rule] += 1
    result.brought += record.metadata.get(SOURCE, result.namespace) != result.namespace
    outcome = enrich(record, result.namespace, routed, "fail")
    if isinstance(outcome, Conflict):
        result.conflicts[outcome.key] += 1
        _keep_first(result.conflict_ids, record)


def _keep_first(ids: list[str], record: Record) -> None:
    if len(ids) < SAMPLE_IDS:
        ids.append(record.id)
