"""The tutorial, typed as it stands by somebody who typed README's copy before, on the same stack."""

import re

import pytest

from orchestrator.core.states import JobState
from tests.stories.emulated import as_twins, assert_same, assert_same_index, target_of
from tests.stories.launching import REPOSITORY
from tests.stories.reader import DOCS, Reader
from tests.stories.world import SEEDS, World

pytestmark = pytest.mark.story
COPY = "copy_of_5698"


def copy_of_the_readme() -> str:
    """Return what README has its reader type for a copy of one namespace: `$ ` stands before each line."""
    section = (REPOSITORY / "README.md").read_text().partition("The simplest job")[2].partition("## When not")[0]
    return "\n".join(re.findall(r"^\$ (.+)$", section, re.MULTILINE))


def test_the_tutorial_after_the_readme_leaves_the_copy_that_was_made_there(seeds: World) -> None:
    # Given a copy that a job of before made
    seeds.start(workers=2)
    reader = Reader(seeds, "tutorial", folder=DOCS)
    reader.type(copy_of_the_readme())
    before = seeds.emulator.dump(SEEDS)
    assert COPY in before and seeds.job(1).state is JobState.FINISHED
    # When its reader goes on with the tutorial, whose first job fails
    reader.leave_out()
    reader.type_next(3)
    reader.type_next(2, ends_with=1)
    assert "it is locked" in reader.type_next()
    # And runs again what failed, and goes back
    reader.type_next(2)
    assert seeds.job(2).state is JobState.VERIFIED
    reader.type_next()
    # Then the index is as it was, and the copy is there
    assert seeds.job(1).state is JobState.FINISHED
    assert seeds.job(2).state is JobState.ROLLED_BACK
    assert_same_index(seeds.emulator.dump(SEEDS), before)
    # And at the end every namespace is a twin, the copy too
    assert "873 of 873" in reader.type_next()
    after = seeds.emulator.dump(SEEDS)
    assert {name: len(rows) for name, rows in after.items()} == {
        target_of(name): len(rows) for name, rows in before.items()
    }
    assert_same(after[target_of(COPY)], as_twins(before)[target_of(COPY)], "the copy")
    reader.leave_out()
    reader.assert_typed_it_all()
