"""An upsert that is not answered and lands late: no reader is moved, and no source deleted, before it no longer can."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from orchestrator.core.states import JobState
from orchestrator.ledger import moves
from tests.machine.jobs import World
from tests.machine.lagging import Fate
from tests.machine.lives import ALMA, Life
from tests.machine.people import Writers, record
from tests.machine.test_lagging_store import world

__all__ = ["world"]
# Just within the request's deadline and the longest lag.
LANDS_S = 69.0


class Newest:
    """A chance that always takes the mildest choice: reads that show what is there."""

    def number(self, most: int) -> int:
        return 0


@contextmanager
def life_of(world: World, writers: Writers, cut_over: str) -> Iterator[Life]:
    life = Life(world, Newest(), writers)
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA, cut_over=cut_over, soak_seconds=0, max_passes=40)
    try:
        yield life
    finally:
        life.close()


def readers_move_at_once(world: World, writers: Writers) -> None:
    """The application's first write to the new side comes right after the cut-over, as soon as that is allowed."""
    with life_of(world, writers, "operator") as life:
        life.index.fates["upsert"] = [Fate(answered=False, effects=(LANDS_S,))]
        life.until(JobState.VERIFIED)
        while life.asks("cut over") is not None:
            life.round()
        life.application.writes(ALMA, record("b", "newer"))
        life.passes(LANDS_S + 1)
        life.laws.hold()
        life.asks("clean up")
        life.ends()


def the_source_is_deleted_at_once(world: World, writers: Writers) -> None:
    """The first pass' version of a record lands after a later pass wrote the newer one, and its source is deleted."""
    with life_of(world, writers, "none") as life:
        life.index.fates["upsert"] = [Fate(answered=False, effects=(0.0, LANDS_S))]
        life.round()
        life.round()
        if writers != "freeze":
            life.application.writes(ALMA, record("b", "newer"))
        life.until(JobState.VERIFIED)
        while life.asks("clean up") is not None:
            life.round()
        life.ends()


LIVES: dict[str, tuple[Callable[[World, Writers], None], Writers]] = {
    "readers move, freeze": (readers_move_at_once, "freeze"),
    "readers move, delta": (readers_move_at_once, "delta"),
    "a source goes, freeze": (the_source_is_deleted_at_once, "freeze"),
    "a source goes, delta": (the_source_is_deleted_at_once, "delta"),
}


@pytest.mark.parametrize("name", LIVES)
def test_what_an_application_writes_outlives_an_upsert_that_lands_late(world: World, name: str) -> None:
    life, writers = LIVES[name]
    life(world, writers)


def test_where_it_is_not_on_record_an_acknowledged_write_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "note_landing", lambda *_: None)
    with pytest.raises(AssertionError):
        readers_move_at_once(world, "freeze")
