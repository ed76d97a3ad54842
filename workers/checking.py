"""Read a target back: each copy batch's records against its tally, and the whole list of ids against the manifests.

Read-only at the store. Safe to run twice. A difference counts only after the freshness wait, and is then named.
"""

import heapq
from collections.abc import Iterator
from typing import Any

from orchestrator import manifests
from orchestrator.ledger import checks
from orchestrator.model import Finding
from vecfleet.digests import Tally, id_digest, record_digest
from workers.placing import place_all
from workers.work import Work

# Copy batches whose manifests are read at once while ids are merged: some thousand ids in memory.
_STREAM_PAGE = 20


def verify_batch(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """Compare what one copy batch wrote to one target with what the target gives back."""
    target = work.target_row
    with work.database.begin() as connection:
        tally = checks.tally_of(connection, work.copy_id, target.id)
    ids = manifests.select(work.ids, tally.members)
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
    placed, _ = place_all(work.placer, work.source.fetch(work.move.source, ids))
    different = [
        Finding("different", record_id)
        for record_id, digest in digests.items()
        if record_id not in placed or placed[record_id].digest != digest
    ]
    return missing + different


def survey_target(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """List the target and compare its ids with those that were written; name what is missing or extra."""
    target = work.target_row
    found = Tally()
    for page in work.target.ids(target.namespace):
        found += Tally.of_digests(id_digest(record_id) for record_id in page)
    with work.database.begin() as connection:
        expected = checks.expected_of(connection, [target.id]).get(target.id)
    findings: list[Finding] = []
    if expected is None or (found.count, found.digest) != (expected.count, expected.ids_digest):
        work.look_again(f"the ids listed in {target.namespace} are not yet those written")
        findings = list(_merge(work, target.id, target.namespace))
    counted = {kind: sum(finding.kind == kind for finding in findings) for kind in ("missing", "extra")}
    return {"count": found.count, "ids_digest": str(found.digest), **counted}, findings


def _merge(work: Work, target_id: int, namespace: str) -> Iterator[Finding]:
    """A second full listing, merged with the manifests in byte order: bounded memory whatever the size."""
    with work.database.begin() as connection:
        move_ids = checks.moves_into(connection, target_id)
    written = heapq.merge(*(_written(work, move_id, target_id) for move_id in move_ids), key=str.encode)
    listed = (record_id for page in work.target.ids(namespace) for record_id in page)
    expected, actual = next(written, None), next(listed, None)
    while expected is not None or actual is not None:
        if actual is None or (expected is not None and expected.encode() < actual.encode()):
            assert expected is not None
            yield Finding("missing", expected)
            expected = next(written, None)
        elif expected is None or actual.encode() < expected.encode():
            yield Finding("extra", actual)
            actual = next(listed, None)
        else:
            expected, actual = next(written, None), next(listed, None)


def _written(work: Work, move_id: int, target_id: int) -> Iterator[str]:
    """The ids a move wrote to a target, in byte order, read a few manifests at a time."""
    after: str | None = None
    while True:
        with work.database.begin() as connection:
            rows = checks.manifest_stream(connection, move_id, target_id, after, _STREAM_PAGE)
        for first_id, manifest, members in rows:
            after = first_id
            yield from manifests.select(manifests.unpack(manifest), members)
        if len(rows) < _STREAM_PAGE:
            return
