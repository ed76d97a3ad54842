"""Read a target back: each copy batch's records against its tally, and the whole list of ids against the manifests.

Read-only at the store. Safe to run twice. A difference counts only after the freshness wait, and is then named.
"""

import heapq
from collections.abc import Iterator
from typing import Any

from orchestrator import manifests
from orchestrator.ledger import checks, moves
from orchestrator.model import Finding, Target
from vecfleet.digests import Tally, record_digest
from workers.placing import place_all
from workers.work import Work

# Copy batches whose manifests are read at once while ids are merged: some thousand ids in memory.
_STREAM_PAGE = 20
_BEFORE_PAGE = 5_000


def verify_batch(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """Compare what one copy batch wrote to one target with what the target gives back."""
    target = work.target_row
    with work.database.begin() as connection:
        tally = checks.tally_of(connection, work.copy_id, target.id)
    ids = [work.placer.target_id(record_id) for record_id in manifests.select(work.ids, tally.members)]
    held = work.target.fetch(target.namespace, ids)
    digests = {record_id: record_digest(record) for record_id, record in held.items()}
    found = Tally.of_digests(digests.values())
    findings: list[Finding] = []
    if (found.count, found.digest) != (tally.count, tally.digest):
        work.look_again(f"{target.namespace} does not yet give back what was written")
        findings = _name_differences(work, ids, digests)
    counted = {kind: sum(finding.kind == kind for finding in findings) for kind in ("missing", "different")}
    return {"count": found.count, "digest": str(found.digest), **counted}, findings


def _name_differences(work: Work, ids: list[str], digests: dict[str, int]) -> list[Finding]:
    missing = [Finding("missing", record_id) for record_id in ids if record_id not in digests]
    placed_at_source, _ = place_all(work.placer, work.source.fetch(work.move.source, work.ids))
    placed = {one.record.id: one for one in placed_at_source.values()}
    different = [
        Finding("different", record_id)
        for record_id, digest in digests.items()
        if record_id not in placed or placed[record_id].digest != digest
    ]
    return missing + different


def survey_target(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """List the target and compare its ids with those that were written; name what is missing or extra.

    Records that were there before the job are neither: they are not ours to count.
    """
    target = work.target_row
    with work.database.begin() as connection:
        expected = checks.expected_ids_of(connection, target.id)
    listed = Tally()
    for page in work.target.ids(target.namespace):
        listed += Tally.of_ids(page)
    written = listed - Tally(target.held_before, target.held_before_digest)
    findings: list[Finding] = []
    if written != expected:
        work.look_again(f"the ids listed in {target.namespace} are not yet those written")
        findings, written = _merge(work, target)
    counted = {kind: sum(finding.kind == kind for finding in findings) for kind in ("missing", "extra")}
    return {"count": written.count, "ids_digest": str(written.digest), **counted}, findings


def _merge(work: Work, target: Target) -> tuple[list[Finding], Tally]:
    """A second full listing, merged with the manifests in byte order; also the tally of ids that are not from before.

    Bounded memory whatever the size of the target: what is kept are the differences.
    """
    with work.database.begin() as connection:
        sources = checks.moves_into(connection, target.id)
    expected = heapq.merge(*(_written(work, move_id, prefix, target.id) for move_id, prefix in sources), key=str.encode)
    before = _held_before(work, target.id)
    listed = (record_id for page in work.target.ids(target.namespace) for record_id in page)
    findings: list[Finding] = []
    tally = Tally()
    wanted, old = next(expected, None), next(before, None)
    for record_id in listed:
        while wanted is not None and wanted.encode() < record_id.encode():
            findings.append(Finding("missing", wanted))
            wanted = next(expected, None)
        while old is not None and old.encode() < record_id.encode():
            old = next(before, None)
        if record_id == wanted:
            wanted = next(expected, None)
        elif record_id == old:
            continue
        else:
            findings.append(Finding("extra", record_id))
        tally += Tally.of_ids([record_id])
    while wanted is not None:
        findings.append(Finding("missing", wanted))
        wanted = next(expected, None)
    return findings, tally


def _written(work: Work, move_id: int, prefix: str, target_id: int) -> Iterator[str]:
    """The ids a move wrote to a target, in byte order, read a few manifests at a time."""
    after: str | None = None
    while True:
        with work.database.begin() as connection:
            rows = checks.manifest_stream(connection, move_id, target_id, after, _STREAM_PAGE)
        for first_id, manifest, members in rows:
            after = first_id
            yield from (prefix + record_id for record_id in manifests.select(manifests.unpack(manifest), members))
        if len(rows) < _STREAM_PAGE:
            return


def _held_before(work: Work, target_id: int) -> Iterator[str]:
    """The ids that were in the target before the job, in byte order."""
    after: str | None = None
    while True:
        with work.database.begin() as connection:
            ids = moves.held_before(connection, target_id, after, _BEFORE_PAGE)
        yield from ids
        if len(ids) < _BEFORE_PAGE:
            return
        after = ids[-1]
