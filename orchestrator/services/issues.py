"""The issues of a job: what is wrong, open or not proven, for its report."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import sqlalchemy as sa

from orchestrator.core.late_calls import told_in
from orchestrator.core.model import Target
from orchestrator.core.reading import Reading, Since
from orchestrator.core.states import JOB_ENDED, CheckState, JobState
from orchestrator.core.wording import being, counted
from orchestrator.ledger import parked

SHOWN = 50
"""Issues of one kind that are shown: enough to see what is wrong. The counts stay exact."""
_FEW_PARKED = 10
ENDED_BY_A_PERSON = frozenset({JobState.CANCELLING, JobState.CANCELLED, JobState.FINISHED})
"""States whose reason says who ended the job, which is no issue; what it says of late calls is one."""


def issues_of(
    connection: sa.Connection,
    reading: Reading,
    targets: Sequence[Target],
    unread: str | None,
    since: Since,
    *,
    unlisted: int,
    asked: bool,
    cut: int | None,
    names_ids: bool,
) -> Iterator[str]:
    """Yield the issues of a job. `names_ids`: records are named by their ids; otherwise they are counted."""
    totals = reading.totals
    if reading.job.state not in JOB_ENDED:
        yield f"the job {being(reading.job.state)}: this report is not final"
    if reading.job.reason and reading.job.state not in ENDED_BY_A_PERSON:
        yield reading.job.reason
    elif reading.job.reason:
        yield from told_in(reading.job.reason)
    if reading.job.policies.embedding is not None and not asked:
        yield "the quality of the new vectors is not judged: no question was asked"
    if cut:
        yield f"{counted(cut, 'text was', 'texts were')} longer than the model takes, and cut"
    if unlisted:
        sources = counted(unlisted, "namespace was", "namespaces were")
        yield f"{sources} not listed to the end: how many records are there is not known, and those are not copied"
    if unread:
        yield f"the target index could not be read: {unread}"
    if totals.listed != totals.settled:
        yield f"{counted(totals.listed, 'record', 'records')} listed but {totals.settled:,} accounted for"
    if totals.gone and not reading.job.policies.quiet_passes:
        yield f"{counted(totals.gone, 'record was', 'records were')} gone from the source before the copy"
    differing = [target for target in targets if target.check_state == CheckState.MISMATCHED]
    for target in differing[:SHOWN]:
        yield f"{target.namespace}: {(target.verdict or {}).get('reason', 'it differs from its source')}"
    if names_ids:
        yield from islice(chain.from_iterable(map(_named, differing)), SHOWN)
    for namespace, record_id, what in since.shown:
        yield f"since then {what}: {namespace} / {record_id}"
    if (rest := since.total - len(since.shown)) > 0:
        yield f"since then: {rest:,} more" if since.shown else f"since then: {since}"
    yield from _parked(connection, reading, names_ids=names_ids)


def _parked(connection: sa.Connection, reading: Reading, *, names_ids: bool) -> Iterator[str]:
    """Yield each parked record or, if there are more than a few, each reason; then each reason of parked batches."""
    shown = parked.records(connection, reading.job.id, _FEW_PARKED + 1)
    one_by_one = names_ids and len(shown) <= _FEW_PARKED
    for record in shown if one_by_one else ():
        by = f" (left behind by {record.accepted_by})" if record.accepted_by else ""
        yield f"parked: {record.source} / {record.record_id}: {record.reason}{by}"
    for group in reading.reasons:
        if not group.of_records or not one_by_one:
            yield f"parked: {group}"
    if shown and not one_by_one:
        more = f"{reading.more_reasons:,} more reasons, and " if reading.more_reasons else ""
        yield f"parked: {more}each record: `vecfleet park list {reading.job.id}`"


def _named(target: Target) -> Iterator[str]:
    """Yield the missing, extra or different records that a target's verdict shows."""
    for sample in (target.verdict or {}).get("samples", ()):
        parts = f" in {sample['parts']}" if "parts" in sample else ""
        yield f"{sample['kind']}{parts}: {target.namespace} / {sample['id']}"
