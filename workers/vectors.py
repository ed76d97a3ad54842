"""Place records, and give them the vectors that the plan makes of their texts.

Read-only at the stores. Safe to repeat: a text that was paid for has the vector that the cache keeps, or that the
target holds as the copy recorded it, so a record has the same digest on every read. Dies at any line: what is in either
is not asked for again.
"""

from collections.abc import Iterator, Mapping, Sequence

from migrations.embedding import Embedding, NoText
from migrations.plan import Policies
from migrations.texts import texts_of
from orchestrator.core import manifests
from orchestrator.core.model import Move, ParkedRecord
from orchestrator.ledger import erasures
from vecfleet.digests import record_digest
from vecfleet.records import Record
from workers.erasure_check import ErasureCheck
from workers.placing import Placed, Placer, place_all
from workers.work import Later, Work


def place(
    work: Work, records: Mapping[str, Record], move: Move | None = None
) -> tuple[dict[str, Placed], list[ParkedRecord]]:
    """Return every record of the move placed as its target should hold it, or parked."""
    placer = work.placer if move is None else work.placer_of(move)
    placed, parked = place_all(placer, records)
    if work.job.plan.policies.embedding is None:
        return placed, parked
    placed, without = embed(work, placer, records, placed, ErasureCheck(work.router, placer.source))
    return placed, [*parked, *without]


def makes(work: Work, record: Record, namespace: str) -> bool:
    """Say whether the move would make this of a record that its source no longer has.

    That cannot be told, and is denied, if its records do not lead back.
    """
    origin = work.placer.origin(record, namespace)
    if origin is None:
        return False
    placed = place(work, {origin.id: origin})[0].get(origin.id)
    return placed is not None and (placed.target, placed.digest) == (namespace, record_digest(record))


def embed(
    work: Work,
    placer: Placer,
    records: Mapping[str, Record],
    placed: Mapping[str, Placed],
    check: ErasureCheck,
    *,
    copied_before: bool = False,
) -> tuple[dict[str, Placed], list[ParkedRecord]]:
    """Give placed records the vectors of their texts; return them all if the plan embeds nothing.

    `copied_before`: in an earlier run of this batch, so records may be at their targets as it recorded them. A record
    without a text that the model takes is parked. Raises what asking the model does.
    """
    embedding = work.job.plan.policies.embedding
    if embedding is None:
        return dict(placed), []
    if embedding.integrated:
        return _with_texts(work, embedding, records, placed)
    done: dict[str, Placed] = {}
    parked: list[ParkedRecord] = []
    texts: dict[str, str] = {}
    every = texts_of(embedding, work.texts, [records[record_id] for record_id in placed])
    for (record_id, placement), text in zip(placed.items(), every, strict=True):
        if not isinstance(text, NoText):
            texts[record_id] = text
        elif embedding.fits(placement.record):
            done[record_id] = placement
        else:
            parked.append(ParkedRecord(record_id, text.reason))
    subjects = {record_id: check.subjects(records[record_id], placed[record_id]) for record_id in texts}
    assert work.embeddings is not None, "the runner opens the model of a plan that embeds"
    if copied_before and not embedding.card.is_local and _is_same_text(work, embedding):
        kept = work.embeddings.kept(texts, subjects)
        done |= _as_recorded(work, [placed[record_id] for record_id in texts], kept)
    asked = {record_id: text for record_id, text in texts.items() if record_id not in done}
    if asked:
        answer = work.embeddings.values_of(
            list(asked.values()),
            [subjects[record_id] for record_id in asked],
            lambda leaving: _require_not_erased(work, leaving),
        )
        for position, (record_id, values) in enumerate(zip(asked, answer.values, strict=True)):
            if values is None:
                parked.append(ParkedRecord(record_id, answer.refused[position]))
            else:
                done[record_id] = placer.with_values(placed[record_id], values)
    return done, parked


def _with_texts(
    work: Work, embedding: Embedding, records: Mapping[str, Record], placed: Mapping[str, Placed]
) -> tuple[dict[str, Placed], list[ParkedRecord]]:
    """Return the placed records that have a text, for a target that embeds it itself; the others are parked."""
    every = texts_of(embedding, work.texts, [records[record_id] for record_id in placed])
    without = {
        record_id: text.reason for record_id, text in zip(placed, every, strict=True) if isinstance(text, NoText)
    }
    done = {record_id: placement for record_id, placement in placed.items() if record_id not in without}
    return done, [ParkedRecord(record_id, reason) for record_id, reason in without.items()]


def _require_not_erased(work: Work, subjects: frozenset[str]) -> None:
    """Raise Later if a tenant of these texts was erased: they must not leave for the model any more."""
    with work.database.once() as connection:
        if erasures.fenced(connection, subjects):
            raise Later(0, "a tenant was erased meanwhile")


def place_unproven(work: Work, records: Mapping[str, Record]) -> tuple[dict[str, Placed], list[ParkedRecord]]:
    """Place the records, leaving out those that their targets hold with the vectors on record for the same texts.

    These are proven without the model: so a text whose vector left the cache since is not paid for again. Nor is that
    of a record which changed at its target, but for the vector that was copied.
    """
    policies = work.job.plan.policies
    embedding = policies.embedding
    if embedding is None or not _keeps_text(policies, embedding):
        return place(work, records)
    every = texts_of(embedding, work.texts, list(records.values()))
    texts = {record_id for record_id, text in zip(records, every, strict=True) if isinstance(text, str)}
    placed, _ = place_all(work.placer, {record_id: records[record_id] for record_id in texts})
    held = list(_held_as_recorded(work, list(placed.values())))
    known = {copied.source_id for copied, _ in held}
    unproven, parked = place(
        work, {record_id: record for record_id, record in records.items() if record_id not in known}
    )
    changed = {copied.source_id: copied for copied, there in held if copied.digest != record_digest(there)}
    return unproven | changed, parked


def _as_recorded(work: Work, placed: Sequence[Placed], kept: Mapping[str, bytes]) -> dict[str, Placed]:
    """Return those that the copy recorded with a vector that is `kept` by their ids, or that their target holds.

    Everything else of a record must be what the source makes now: also the metadata, of which the text is made.
    """
    recorded = {target.namespace: work.recorded(target.id) for target in work.copy_targets}
    of_the_cache = [
        work.placer.with_values(placement, kept[placement.source_id])
        for placement in placed
        if placement.source_id in kept
    ]
    same = {copied.source_id: copied for copied in of_the_cache if _is_recorded(copied, recorded)}
    unknown = [placement for placement in placed if placement.source_id not in same]
    return same | {copied.source_id: copied for copied, _ in _held_as_recorded(work, unknown)}


def _held_as_recorded(work: Work, placed: Sequence[Placed]) -> Iterator[tuple[Placed, Record]]:
    """Yield those of which the target holds the vector that the copy recorded, each with the record there.

    Of that record all but the vector may have changed since: what the copy recorded shows what the vector was of.
    """
    for target in work.copy_targets:
        recorded = {target.namespace: work.recorded(target.id)}
        group = [placement for placement in placed if placement.source_id in recorded.get(placement.target, ())]
        held = work.target.fetch(target.namespace, [placement.record.id for placement in group]) if group else {}
        for placement in group:
            there = held.get(placement.record.id)
            if there is not None:
                copied = work.placer.with_values(placement, there.values)
                if _is_recorded(copied, recorded):
                    yield copied, there


def _is_recorded(placement: Placed, recorded: Mapping[str, Mapping[str, int]]) -> bool:
    at_target = recorded.get(placement.target, {})
    return manifests.short(placement.digest) == at_target.get(placement.source_id)


def _is_same_text(work: Work, embedding: Embedding) -> bool:
    """Say whether a record that is at its target as it was copied still has the text of its copy, or may be left so.

    A repair in the first pass writes only what a check found. Whether a source has changed since is for a later pass to
    find, and for the reading before its deletion.
    """
    repairs = work.lease.rewrite is not None and work.job.passes == 1
    return repairs or _keeps_text(work.job.plan.policies, embedding)


def _keeps_text(policies: Policies, embedding: Embedding) -> bool:
    """Say whether a record at its target shows all of which its text was made, or that cannot have changed.

    A file of texts is the same as long as its plan is worked on.
    """
    if embedding.rows is not None:
        return embedding.rows.file is not None
    asked = policies.metadata_map
    return asked is None or asked.travels or not (asked.removes | asked.writes) & set(embedding.keys)
