"""A target that the service has converted: what it made is compared, completed, and rid of what was deleted since."""

from dataclasses import replace

import pytest
from in_one_process import COUNT, TARGET, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import JobState
from orchestrator.services import acts
from vecfleet.records import Record
from vecfleet.stores.base import Written
from vecfleet.stores.memory import MemoryIndex


def test_only_what_a_conversion_left_out_is_written_and_what_was_deleted_since_is_taken_away(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a conversion that skipped two records, has an older version of a third, and one that is deleted by now
    source = twenty_three()
    older, gone = replace(source[5], metadata={"text": "older"}), replace(source[7], id="r99-deleted-since")
    converted = [*source[:5], older, *source[6:20], source[22], gone]
    with open_one(
        database_url,
        redis_url,
        {"s": source, TARGET: converted},
        planned("s", TARGET, COUNT),
        converted=True,
        enrich=False,
    ) as one:
        written, upsert = [], MemoryIndex.upsert

        def note(index: MemoryIndex, namespace: str, records: list[Record]) -> Written:
            written.extend(record.id for record in records)
            return upsert(index, namespace, records)

        monkeypatch.setattr(MemoryIndex, "upsert", note)
        # When every batch is worked twice
        one.until(JobState.VERIFIED, times=2)
        # Then the target is the source, and no record that was right is written again
        assert one.index.fetch(TARGET, one.ids(TARGET)).records == one.index.fetch("s", one.ids("s")).records
        assert sorted({*written}) == ["r05", "r20", "r21"]
        move = one.table.move
        assert (move.listed, move.written, move.gone) == (COUNT + 1, COUNT, 1)
        # And a roll back leaves nothing of it
        acts.roll_back(one.table.database, one.table.job_id, "ana", None)
        one.until(JobState.ROLLED_BACK)
        assert one.ids(TARGET) == []
