"""Read a target back: compare the records that some copy batches wrote to it, one by one, with their tallies.

Read-only at the store. Safe to run twice. A difference counts only after the freshness wait. The finding then names the
record and the parts in which the two versions differ.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.core import manifests
from orchestrator.core.model import Finding, TargetTally
from orchestrator.ledger import checks, copies
from vecfleet.digests import Tally, differing_parts, record_digest
from vecfleet.records import Record
from workers.copying import tally_of
from workers.placing import Placed, place_all
from workers.vectors import place
from workers.work import Work

# Copy batches whose manifests are read at once: some thousand ids in memory.
_PAGE = 20


@dataclass(frozen=True, slots=True)
class _Part:
    """The records that one copy batch wrote to the target: their ids there, by their ids at the source."""

    tally: TargetTally
    copy_id: int
    listed: list[str]  # all ids of the copy batch, if its tally may be computed again
    ids: dict[str, str]
    recorded: dict[str, int]  # the short digest of each, by its id at the source


def verify_batch(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """Compare the records that copy batches wrote to one target with those it returns. Memory holds ids and digests."""
    parts = list(_parts(work))
    expected = _sum(part.tally for part in parts)
    digests = dict(_digests(work, [record_id for part in parts for record_id in part.ids.values()]))
    actual = Tally.of_digests(digests.values())
    findings: list[Finding] = []
    if actual != expected:
        differing = [
            part
            for part in parts
            if not (_as_written(part, digests) or _complete(work, part, digests) or _agree(work, part, digests))
        ]
        if differing:
            work.look_again(f"{work.target_row.namespace} does not yet give back what was written")
        for part in differing:
            findings += _differences(work, part, digests)
    counted = {kind: sum(finding.kind == kind for finding in findings) for kind in ("missing", "different")}
    return {"count": actual.count, "digest": str(actual.digest), **counted}, findings


def _parts(work: Work) -> Iterator[_Part]:
    dual = work.job.plan.policies.writers == "dual"
    for start in range(0, len(work.lease.copies), _PAGE):
        with work.database.once() as connection:
            written = checks.written_by(connection, work.lease.copies[start : start + _PAGE], work.target_row.id)
        for copy_id, manifest, tally in written:
            listed = manifests.unpack(manifest)
            recorded = manifests.select_digests(listed, tally.members, tally.record_digests)
            ids = {record_id: work.placer.target_id(record_id) for record_id in manifests.select(listed, tally.members)}
            yield _Part(tally, copy_id, listed if dual else [], ids, recorded)


def _sum(tallies: Iterable[TargetTally]) -> Tally:
    return sum((Tally(tally.count, tally.digest) for tally in tallies), Tally())


def _digests(work: Work, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the digests of the records that the target holds. Memory holds the records of one answer at a time."""
    for records in work.target.fetch_parts(work.target_row.namespace, ids):
        yield from ((record_id, record_digest(record)) for record_id, record in records.items())


def _as_written(part: _Part, digests: Mapping[str, int]) -> bool:
    there = [digests[record_id] for record_id in part.ids.values() if record_id in digests]
    return Tally.of_digests(there) == Tally(part.tally.count, part.tally.digest)


def _complete(work: Work, part: _Part, digests: Mapping[str, int]) -> bool:
    """Complete a tally of which an erasure left only the short digests, if each record there has its short digest.

    The erased record was missing or changed at the target, so nobody knew what to subtract.
    """
    there = {source_id: digests[record_id] for source_id, record_id in part.ids.items() if record_id in digests}
    total = Tally.of_digests(there.values())
    shorts = {source_id: manifests.short(digest) for source_id, digest in there.items()}
    if not shorts or shorts != part.recorded or part.tally.digest != manifests.short(total.digest):
        return False
    with work.database.begin() as connection:
        copies.agree(connection, work.lease, part.copy_id, part.tally, replace(part.tally, digest=total.digest))
    return True


def _agree(work: Work, part: _Part, digests: Mapping[str, int]) -> bool:
    """Say whether the application wrote the same to both sides since the copy: then the target's records are right."""
    target = work.target_row
    there = {record_id: digests[record_id] for record_id in part.ids.values() if record_id in digests}
    if work.job.plan.policies.writers != "dual" or target.is_authoritative or len(there) != len(part.ids):
        return False
    placed, _ = place(work, work.source.fetch(work.move.source, list(part.ids)))
    group = [placement for placement in placed.values() if placement.target == target.namespace]
    if {placement.record.id: placement.digest for placement in group} != there:
        return False
    with work.database.begin() as connection:
        copies.agree(connection, work.lease, part.copy_id, part.tally, tally_of(part.listed, target.id, group))
    return True


def _differences(work: Work, part: _Part, digests: dict[str, int]) -> list[Finding]:
    """Return the missing and the changed records of a copy batch, with the parts that differ from the source now.

    If a tally lacks the digests of its records, each record is compared with the source instead.
    """
    absent = [record_id for record_id in part.ids.values() if record_id not in digests]
    there = {source_id: record_id for source_id, record_id in part.ids.items() if record_id in digests}
    placed: dict[str, Placed] = {}
    expected = part.recorded
    if not expected:
        placed, _ = place(work, work.source.fetch(work.move.source, list(there)))
        expected = {source_id: manifests.short(placement.digest) for source_id, placement in placed.items()}
    other = {
        source_id: record_id
        for source_id, record_id in there.items()
        if expected.get(source_id) != manifests.short(digests[record_id])
    }
    held = work.target.fetch(work.target_row.namespace, list(other.values()))
    if part.recorded:
        placed, _ = place_all(work.placer, work.source.fetch(work.move.source, list(other)))
    different = []
    for source_id, record_id in other.items():
        parts = None
        if record_id in held and source_id in placed:
            parts = ", ".join(_differing(work, placed[source_id], held[record_id], expected.get(source_id))) or None
        different.append(Finding("different", record_id, part.copy_id, parts, digests[record_id]))
    return [*(Finding("missing", record_id, part.copy_id) for record_id in absent), *different]


def _differing(work: Work, placed: Placed, there: Record, recorded: int | None) -> Sequence[str]:
    """Return the parts in which a record at the target differs from what its source makes now.

    No text is embedded in order to name a part: where the plan makes the vector anew, it is the vector if all else is
    equal and the record is not the recorded one.
    """
    anew = work.embeds
    made = replace(placed.record, values=there.values) if anew else placed.record
    parts = differing_parts(work.target.index.normalise(made), there)
    return parts or (("values",) if anew and manifests.short(record_digest(there)) != recorded else ())
