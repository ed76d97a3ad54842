"""The seeds' case by three creators: each namespace to its own creator, `__default__` split by owner."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from migrations.creators import Grouping
from migrations.ownership import look_up
from orchestrator.core.states import JobState
from orchestrator.services import acts, left_behind
from tests.stories.emulated import Row, Rows, assert_same, assert_same_index, row
from tests.stories.launching import REPOSITORY
from tests.stories.world import SEEDS, WHO, World

pytestmark = pytest.mark.story

DEFAULT = "__default__"
DIMENSION = 3072


def test_default_is_split_among_three_creators_and_its_orphans_stay(
    seeds: World,
) -> None:
    owners = Owners(seeds.folder / "ownership.yaml")
    # Given records of __default__ whose id their twin's own namespace holds already, with other content
    twins = sorted(owners.creator_of)[:3]
    common: dict[str, str] = {}
    for twin in twins:
        id = min(seeds.emulator.records(SEEDS, twin), key=len)
        seeds.emulator.write(
            SEEDS, DEFAULT, [row(id, seed=7, dimension=DIMENSION, twin_id=twin, title="the other one")]
        )
        common[id] = twin
    before = seeds.emulator.dump(SEEDS)
    orphans = {id for id, one in before[DEFAULT].items() if owners.of(one) is None}
    assert len(common) == 3
    assert len(orphans) > 50
    # When it is migrated by the ownership file
    seeds.start(workers=2)
    snapshot = look_up("file", seeds.fleet.settings, file="ownership.yaml")
    grouping = Grouping(snapshot=snapshot, default="split")
    job_id = seeds.apply(seeds.plan(grouping=grouping, conflicts="overwrite", collisions="skip"))
    # Then the orphans wait for a person, each with its reason, and are accepted
    job = seeds.reaches(job_id, JobState.NEEDS_ATTENTION)
    assert job.reason == f"{len(orphans)} parked records wait for a decision"
    assert {(source, id) for source, id in seeds.parked(job_id)} == {(DEFAULT, id) for id in orphans}
    assert set(seeds.parked(job_id).values()) == {"no owner: neither its metadata nor the ownership look-up names one"}
    assert left_behind.accept_records(seeds.fleet.database, job_id, WHO, None, confirmed=1_000) == len(orphans)
    seeds.reaches(job_id, JobState.VERIFIED)
    seeds.assert_accounts(job_id)
    # And after cut-over the old is deleted, record by record where something stays
    acts.cut_over(seeds.fleet.database, job_id, WHO, 100)
    acts.clean_up(seeds.fleet.database, job_id, WHO, by_ids=False)
    seeds.reaches(job_id, JobState.CLEANED)
    after = seeds.emulator.dump(SEEDS)
    # Then every record is with its owner, byte for byte; of two with one id the first to come, the other where it was
    wanted, left = owners.regrouped(before), {}
    for id, twin in common.items():
        target = owners.namespace(twin)
        arrived = after[target][id]
        candidates = {source: owners.enriched(source, before[source][id]) for source in (DEFAULT, twin)}
        [winner] = [source for source, one in candidates.items() if one.face() == arrived.face()]
        wanted[target][id] = arrived
        left[DEFAULT if winner == twin else twin, id] = before[DEFAULT if winner == twin else twin][id]
    for target, rows in wanted.items():
        assert_same(after.pop(target), rows, target)
    # And the orphans are in __default__ still, untouched, and nothing else but those that came second
    stay: dict[str, Rows] = {DEFAULT: {id: before[DEFAULT][id] for id in orphans}}
    for (source, id), one in left.items():
        stay.setdefault(source, {})[id] = one
    assert_same_index(after, stay)


class Owners:
    """Read the owners from the file, sharing no code with the recipe."""

    def __init__(self, file: Path) -> None:
        command = [sys.executable, "-m", "emulator", "--write-ownership", str(file)]
        subprocess.run(command, cwd=REPOSITORY, check=True, timeout=300)
        body = json.loads(file.read_text())
        self.creator_of = {twin["id"]: twin["creator_id"] for twin in body["twins"]}
        self._twin_of = {source["id"]: source["twin_id"] for source in body["sources"]}

    def of(self, record: Row) -> str | None:
        """The twin of a record that lies among others'."""
        metadata = record.metadata
        if metadata.get("twin_id") in self.creator_of:
            twin = str(metadata["twin_id"])
            assert metadata.get("creator_id", self.creator_of[twin]) == self.creator_of[twin]
            return twin
        return self._twin_of.get(str(metadata.get("source_id")))

    def namespace(self, twin: str) -> str:
        return f"creator_{self.creator_of[twin]}_twin_{twin}"

    def enriched(self, source: str, record: Row) -> Row:
        twin = self.of(record) if source == DEFAULT else source
        assert twin is not None
        return record.enriched(source, self.creator_of[twin], twin)

    def regrouped(self, before: dict[str, Rows]) -> dict[str, Rows]:
        """Return what the new namespaces hold, ids that two sources share left to the caller."""
        wanted: dict[str, Rows] = {}
        for source, rows in before.items():
            for id, record in rows.items():
                twin = self.of(record) if source == DEFAULT else source
                if twin is not None:
                    wanted.setdefault(self.namespace(twin), {})[id] = self.enriched(source, record)
        return wanted
