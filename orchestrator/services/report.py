"""The report of a job: records moved and proven, the cost, and the way back.

Figures come from the job table; the present content comes from the index itself, until the job is over. The report
names what is not proven.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from migrations.estimating import Prices
from migrations.plan import Policies
from migrations.survey import Surveyor
from orchestrator.core import progress
from orchestrator.core.agreement import Summary
from orchestrator.core.model import Target
from orchestrator.core.next_steps import next_steps, soaks_until
from orchestrator.core.quality import quality
from orchestrator.core.reading import JobRow, Reading, Since
from orchestrator.core.states import CHECK_PASSED, BatchKind, CheckState, JobState
from orchestrator.core.wording import counted
from orchestrator.ledger import audit, check_results, copies, deletions, differences, embeddings, moves, status
from orchestrator.ledger.database import Database
from orchestrator.ledger.status import Spent
from orchestrator.services.issues import SHOWN, issues_of
from vecfleet import names
from vecfleet.connections import bare_name
from vecfleet.errors import BadInput, StoreError
from vecfleet.stores.base import Kind, Store

NOT_RUN = "not run"
QUERY_TEST = "query_performance"  # these are named in seed 001's log template
TESTS = ("twin_deletion", "creator_deletion", "gdpr_compliance", QUERY_TEST)
_CAN_LIST = frozenset(Kind) - {Kind.DOCUMENT, Kind.POD}
_VERDICTS = ("verified", "mismatched", "empty", "unverified")


@dataclass(frozen=True, slots=True)
class Holding:
    """Content of an index: records and namespaces. `creator_based`: each name is a tenant's, or `public`."""

    vectors: int
    namespaces: int
    creator_based: bool


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Count of targets by verdict, and the `records` of the verified ones.

    `empty`: nothing was written, so there is nothing to prove.
    """

    verified: int
    mismatched: int
    empty: int
    unverified: int
    records: int


@dataclass(frozen=True, slots=True)
class Deletions:
    """Count of sources with a deletion, and of those with fresh looks only; see `vecfleet show-evidence`."""

    sources: int
    fresh: int

    def __str__(self) -> str:
        late = "every look made when reads showed the last permitted write"
        stale = self.sources - self.fresh
        return f"{counted(self.sources, 'source', 'sources')}, " + (f"{stale} on a look too early" if stale else late)


@dataclass(frozen=True, slots=True)
class Report:
    """One job, summed up.

    `vectors_before`: None while a source is not listed to the end. `after`: present content of the target index, or
    what a job that is over left there; None if the index could not be read. `ours`: number of its namespaces that the
    job created. `seconds`: time in which some batch was at work, without the waits for people. `cut`: texts that were
    longer than the model takes; None where no batch is left to tell.
    """

    reading: Reading
    vectors_before: int | None
    namespaces_before: int
    after: Holding | None
    ours: int
    verdicts: Verdicts
    spent: Spent
    dollars: float
    seconds: float
    tests: Mapping[str, str]
    embedded: embeddings.Spent
    cut: int | None
    asked: Summary | None
    since: Since
    deletions: Deletions
    issues: tuple[str, ...]
    audit_head: str

    @property
    def job(self) -> JobRow:
        return self.reading.job


def build(
    database: Database, store_named: Callable[[str], Store], prices: Prices, job_id: int, *, names_ids: bool = True
) -> Report:
    """Gather the report of a job. Reads the job table and the target index; writes nothing. Raises NotFound.

    `names_ids`: it names records by their ids; otherwise it counts them.
    """
    with database.begin() as connection:
        job = status.reading(connection, job_id, namespaces=0).job
    # Read the index outside the transactions, because that may take minutes.
    now, unread = _read_index(store_named(job.target_store), bare_name(job.target_store, job.target))
    with database.begin() as connection:
        reading = status.reading(connection, job_id, namespaces=0)
        totals, kept = reading.totals, status.left_alone(connection, job_id)
        unlisted = status.unlisted(connection, job_id)
        still_there = now if reading.job.same_index else {}
        targets = moves.targets_of_job(connection, job_id)
        spent = status.spent(connection, job_id)
        total, asked = add_up(spent.values()), check_results.asked(connection, job_id)
        measured = {QUERY_TEST: query_test(asked, reading.job.policies, targets)} if asked else {}
        since = differences.since(connection, job_id, SHOWN if names_ids else 0)
        cut = copies.cut_texts(connection, job_id) if reading.job.policies.embedding is not None else 0
        asked_for = deletions.of_job(connection, job_id)
        return Report(
            reading=reading,
            vectors_before=None if unlisted else totals.listed + sum(still_there.get(name, 0) for name in kept),
            namespaces_before=sum(totals.namespaces.values()) + len(kept),
            after=None if unread else holding(_left(connection, reading.job, targets, kept, now)),
            ours=sum(_is_there(target, reading.job) and target.namespace in now for target in targets),
            verdicts=verdicts(targets),
            spent=total,
            dollars=dollars(total, prices),
            seconds=busy_seconds(spent),
            tests=dict.fromkeys(TESTS, NOT_RUN) | measured | status.recorded_tests(connection, job_id),
            embedded=embeddings.spent(connection, job_id),
            cut=cut,
            asked=asked,
            since=since,
            deletions=Deletions(len(asked_for), sum(deletion.is_fresh for deletion in asked_for)),
            issues=tuple(
                issues_of(
                    connection,
                    reading,
                    targets,
                    unread,
                    since,
                    unlisted=unlisted,
                    asked=asked is not None,
                    cut=cut,
                    names_ids=names_ids,
                )
            ),
            audit_head=audit.head(connection),
        )


def _left(
    connection: sa.Connection, job: JobRow, targets: Sequence[Target], kept: Sequence[str], now: Mapping[str, int]
) -> Mapping[str, int]:
    """Return the records by namespace that an ended job left at its target, by its own accounts; else those of `now`.

    Others write there later. What the plan left alone in the same index is counted now, before as after.
    """
    if job.state not in (JobState.CLEANED, JobState.FINISHED):
        return now
    left = {target.namespace: target.verdict["expected"] for target in targets if target.verdict}
    if job.same_index:
        left |= {name: now.get(name, 0) for name in kept}
        left |= {
            move.source: move.listed - move.deleted - move.gone - move.erased
            for move in moves.of_job(connection, job.id)
        }
    return {name: records for name, records in left.items() if records}


def _is_there(target: Target, job: JobRow) -> bool:
    """Say whether the job created the namespace and it is still there: a rollback drops it unless readers moved."""
    return target.created_by_us and (target.is_authoritative or job.state is not JobState.ROLLED_BACK)


def query_test(asked: Summary, policies: Policies, targets: Sequence[Target]) -> str:
    """Return the result of querying both sides in the form of seed 001's log template."""
    took = f"{asked.new_p95_ms:.0f}ms P95, {asked.old_p95_ms:.0f}ms on the old side"
    if policies.embedding is not None:
        passed = all(target.check_state in CHECK_PASSED for target in targets)
        return f"{'PASSED' if passed else 'FAILED'}: {took}; {quality(asked)}"
    if asked.overlap_worst is None:
        return f"NOT VERIFIED: of {counted(asked.asked, 'query', 'queries')} none could be compared ({took})"
    result = "PASSED" if asked.overlap_worst >= policies.query_overlap else "FAILED"
    agreeing = counted(asked.compared, "query agrees", "queries agree")
    alike = f"{agreeing} to {asked.overlap_worst:.0%} at worst, scores to {asked.drift_worst:.2g}"
    return f"{result}: {took}; {alike}"


def dollars(spent: Spent, prices: Prices) -> float:
    units = spent.read_units * prices.read_million + spent.write_units * prices.write_million
    return units / 1e6 + spent.egress_bytes * prices.egress_gb / 1e9


def _read_index(store: Store, index: str) -> tuple[dict[str, int], str | None]:
    """Return the present records by namespace, or why the index cannot be read."""
    try:
        surveyor = Surveyor(store)
        info = surveyor.describe(index)
        if info.kind not in _CAN_LIST:
            return {}, f"an index of {info.kind}s cannot be listed"
        return {name: held.records for name, held in surveyor.namespaces(info).items()}, None
    except (StoreError, BadInput) as error:
        return {}, error.message


def holding(namespaces: Mapping[str, int]) -> Holding:
    """Add up namespaces, given as name → records."""
    return Holding(
        vectors=sum(namespaces.values()),
        namespaces=len(namespaces),
        creator_based=all(name == names.PUBLIC or names.parse(name) is not None for name in namespaces),
    )


def verdicts(targets: Iterable[Target]) -> Verdicts:
    """Count targets by verdict. A verdict on an older write sequence is void."""
    states: Counter[str] = Counter()
    records = 0
    for target in targets:
        void = target.sequence != target.check_sequence
        states["void" if void else target.check_state] += 1
        if target.check_state == CheckState.VERIFIED and not void and target.verdict:
            records += target.verdict["expected"]
    verified, mismatched, empty = states["verified"], states["mismatched"], states["empty"]
    return Verdicts(verified, mismatched, empty, states.total() - verified - mismatched - empty, records)


def add_up(parts: Iterable[Spent]) -> Spent:
    every = list(parts)
    began = [part.began for part in every if part.began]
    ended = [part.ended for part in every if part.ended]
    return Spent(
        requests=sum(part.requests for part in every),
        read_units=sum(part.read_units for part in every),
        write_units=sum(part.write_units for part in every),
        egress_bytes=sum(part.egress_bytes for part in every),
        began=min(began, default=None),
        ended=max(ended, default=None),
    )


def busy_seconds(spent: Mapping[BatchKind, Spent]) -> float:
    """Return the seconds in which at least one kind of batch was at work; overlaps count once."""
    spans = sorted((part.began, part.ended) for part in spent.values() if part.began and part.ended)
    busy, until = timedelta(), datetime.min.replace(tzinfo=UTC)
    for began, ended in spans:
        busy += max(ended - max(began, until), timedelta())
        until = max(until, ended)
    return busy.total_seconds()


def to_json(report: Report) -> dict[str, Any]:
    """Return the whole report as JSON values."""
    job, totals, estimate, spent = report.job, report.reading.totals, report.job.estimate, report.spent
    return {
        "job": job.id,
        "state": job.state,
        "reason": job.reason,
        "source_index": job.source,
        "target_index": job.target,
        "executed_by": job.created_by,
        "created_at": _iso(job.created_at),
        "ended_at": _iso(job.ended_at),
        "records": {
            "listed": totals.listed,
            "moved_and_verified": report.verdicts.records,
            "written": totals.written,
            "identical": totals.identical,
            "gone": totals.gone,
            "parked": totals.parked,
            "left_behind": totals.left_behind,
            "erased": totals.erased,
            "deleted_from_source": totals.deleted,
        },
        "namespaces": {
            "before": report.namespaces_before,
            "after": report.after.namespaces if report.after else None,
            "created_by_the_job": report.ours if report.after else None,
            "moved": sum(totals.namespaces.values()),
        },
        "vectors": {"before": report.vectors_before, "after": report.after.vectors if report.after else None},
        "all_creator_based": report.after.creator_based if report.after else None,
        "verdicts": {name: getattr(report.verdicts, name) for name in _VERDICTS},
        "seconds": {"estimated": estimate.seconds, "actual": round(report.seconds, 1)},
        "requests": {"estimated": estimate.requests, "actual": spent.requests},
        "read_units": {"estimated": estimate.read_units, "actual": round(spent.read_units, 1)},
        "write_units": {"estimated": estimate.write_units, "actual": round(spent.write_units, 1)},
        "egress_bytes": {"estimated": estimate.egress_bytes, "actual": spent.egress_bytes},
        "dollars": {"estimated": estimate.dollars, "actual": round(report.dollars, 4)},
        "embedding": _embedding_to_json(report),
        "tests": dict(report.tests),
        "queries": report.asked.to_json() if report.asked else None,
        "changed_since": {
            "removed": report.since.removed,
            "changed": report.since.changed,
            "added": report.since.added,
            "records": [
                {"namespace": namespace, "id": record_id, "what": what}
                for namespace, record_id, what in report.since.shown
            ],
        },
        "deletions": {"sources": report.deletions.sources, "on_fresh_looks": report.deletions.fresh},
        "issues": list(report.issues),
        "way_back": way_back(report),
        "audit_head": report.audit_head,
        "next_steps": steps_after(report),
    }


def _embedding_to_json(report: Report) -> dict[str, Any] | None:
    planned, spent, asked = report.job.estimate.embedding, report.embedded, report.job.policies.embedding
    if planned is None or asked is None:
        return None
    used = (spent.texts, spent.tokens, round(asked.card.dollars(spent.tokens), 4))
    rows = zip(("texts", "tokens", "dollars"), (planned.distinct, planned.tokens, planned.dollars), used, strict=True)
    compared: dict[str, Any] = {name: {"estimated": a, "actual": b} for name, a, b in rows}
    return compared | {"unanswered_tokens": spent.unanswered, "texts_cut": report.cut}


def way_back(report: Report) -> str:
    """Say how the job's effect can be undone from its present state."""
    way = progress.way_back(report.job, report.reading.totals)
    if way is not None:
        return way
    if not report.ours:
        return "it was rolled back: nothing is left to take back"
    stay = counted(report.ours, "namespace that it created is", "namespaces that it created are")
    return (
        f"it was rolled back; {stay} still there, because readers had moved there or records there changed: "
        f"`vecfleet audit {report.job.target}`"
    )


def sizes(report: Report) -> tuple[str, str]:
    """Say how many namespaces, and how many vectors, there were before and after; if in two indexes, in which."""
    job, now, moved = report.job, report.after, sum(report.reading.totals.namespaces.values())
    here, there = ("", "") if job.same_index else (f" in {side}" for side in job.sides)
    some = f", {moved:,} of them moved" if moved < report.namespaces_before else ""
    ours = f", {report.ours:,} of them created by this job" if report.ours else ""
    listed = "not listed" if report.vectors_before is None else f"{report.vectors_before:,}"
    before = f"{report.namespaces_before:,}{here} before{some}", f"{listed} {'in what was moved' if here else 'before'}"
    after = (f"{now.namespaces:,}{there} after{ours}", f"{now.vectors:,}{there} after") if now else ("not read",) * 2
    return f"{before[0]} → {after[0]}", f"{before[1]} → {after[1]}"


def steps_after(report: Report) -> list[str]:
    """Return the commands to type after reading the report."""
    look = f"vecfleet audit {report.job.source if report.job.target_store == 'parquet' else report.job.target}"
    steps = [step for step in next_steps(report.reading) if step != f"vecfleet report {report.job.id}"]
    over = report.job.state is JobState.FINISHED or soaks_until(report.job, report.reading.now) is not None
    return [look, *steps] if over or not steps else steps


def migration_log(report: Report) -> dict[str, Any]:
    """Return the log of seed 001, Appendix A, with exactly its keys."""
    job, after = report.job, report.after
    return {
        "migration": {
            "date": _iso(job.started_at or job.created_at),
            "executed_by": job.created_by,
            "before": {"total_vectors": report.vectors_before, "total_namespaces": report.namespaces_before},
            "after": {
                "total_vectors": after.vectors if after else None,
                "total_namespaces": after.namespaces if after else None,
                "all_creator_based": after.creator_based if after else None,
            },
            "tests": {test: report.tests[test] for test in TESTS},
            "issues": list(report.issues),
        }
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
