"""Lives over a store that lags like an adversary: the laws hold; with any safeguard taken out, one of them is broken.

`python -m tests.machine --examples 500` looks for longer, at lives of each kind and at anything in any order.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from migrations import enriching
from orchestrator import dispatcher
from orchestrator.cli import whole_indexes
from orchestrator.core import clean_up_guards, deciding
from orchestrator.core.guards import missing_cap
from orchestrator.core.model import Deletion
from orchestrator.ledger import cleanup, deletions, erasures, listings
from orchestrator.ledger import tables as t
from orchestrator.services import acts, refusals
from tests.machine import scripts
from tests.machine.acting import Clock
from tests.machine.anything import Anything
from tests.machine.jobs import World
from tests.machine.lagging import FRESH
from tests.machine.lives import ALMA, BRUNO, DEADLINE_S, FRESHNESS_S, LEASE_S, Drawn, Life, target_of
from tests.machine.people import Writers, record
from tests.machine.story import Chance, Worst
from vecfleet.enriching import enriched
from workers import caps, choosing, cleaning, listing, target_namespaces, unchanged
from workers.lane import Lane
from workers.work import NotProven, Work

# How many lives of each kind Hypothesis chooses where nothing is wrong, and at most where something is.
EXAMPLES = int(os.environ.get("VECFLEET_EXAMPLES", "0"))
GOOD, AT_MOST = EXAMPLES or 1, max(EXAMPLES, 20)
IN_ANY_ORDER = EXAMPLES or 12


@pytest.fixture
def world(
    database_url: str, redis_url: str, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    times = {"lease_s": LEASE_S, "deadline_s": DEADLINE_S, "freshness_s": FRESHNESS_S}
    monkeypatch.setattr(listing, "_MANIFEST_PAGE", 2)  # small pages for small namespaces
    world = World(database_url, redis_url, clock, home=tmp_path, **times)
    yield world
    world.close()


def bounded(examples: int, **other: Any) -> settings:
    """Without shrinking, which takes hundreds of lives; a story has few lines as it is."""
    return settings(
        max_examples=examples,
        derandomize=not EXAMPLES,  # who asks for more looks for others
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        **other,
    )


TARGETS = tuple(target_of(source, record(source)) for source in (ALMA, BRUNO))


@dataclass
class Broken:
    """A broken law: in which of the lives, with what sentence, after what had happened."""

    lives: int
    law: str
    story: str

    def __str__(self) -> str:
        return f"broken in life {self.lives}: {self.law}\n{self.story}"


def lived(world: World, one: "Safeguard", examples: int) -> Broken | None:
    """Live its script with the oldest looks there may be, but for the `fresh`; then so often as Hypothesis chooses.

    The first life that breaks a law ends it.
    """
    lives, broken = 0, list[Broken]()

    def live(chance: Chance, moods: Mapping[str, int]) -> None:
        nonlocal lives
        lives += 1
        life = Life(world, chance, one.writers)
        life.index.moods.update(moods)
        try:
            one.script(life)
        except AssertionError as law:
            broken.append(Broken(lives, str(law), life.index.story.read()))
            raise
        finally:
            life.close()

    @bounded(examples)
    @given(st.data())
    def live_as_chosen(data: st.DataObject) -> None:
        live(Drawn(data), {})

    try:
        live(Worst(), dict.fromkeys(one.fresh, FRESH))
        live_as_chosen()
    except AssertionError:
        if not broken:
            raise
    return broken[0] if broken else None


@dataclass(frozen=True)
class Safeguard:
    """A life that is spoilt where the safeguard is `taken_out`: functions, and what they were like without it.

    `fresh`: what shows itself at once in the first of its lives.
    """

    script: Callable[[Life], None]
    taken_out: tuple[tuple[Any, str, Any], ...]
    writers: Writers = "freeze"
    fresh: tuple[str, ...] = TARGETS


def _fresh_at_once(job: Any, policies: Any) -> Any:
    return job.created_at


def _fresh_without_old_routes(job: Any, policies: Any) -> Any:
    return job.cut_over_at + timedelta(seconds=job.waits.source_lag_s)


def _repeats(lane: Lane, limits: Any, call: Any, before: Any) -> list[str]:
    deleted = lane._call(limits, call, before)
    lane.usage += deleted.usage
    lane.deletion = Deletion.ANSWERED
    return list(deleted.changed)


def _keeps(metadata: Any, added: Any, policy: Any) -> Any:
    kept = {key: value for key, value in added.items() if policy != "keep" or key not in metadata}
    return enriched(metadata, kept, policy)


def _against_missing_of_source(job: Any, move: Any, missing: int, targets: Any) -> str | None:
    return "too many are missing" if missing > missing_cap(move.written) else None


def _trusts_silence(work: Work, version: int | None) -> None:
    with work.database.begin() as connection:
        cleaning._require_young_proof(connection, work)
    if cleaning.newest_write(work) not in (cleaning.UNTOLD, work.move.proof_lsn):
        raise NotProven("it was written to while it was read again")


def _with_the_emptied(
    connection: sa.Connection, move_id: int, listed_in: int, after: str | None, limit: int
) -> list[tuple[str, bytes]]:
    b = t.batch.c
    query = sa.select(b.first_id, b.manifest).where(b.move_id == move_id, b.kind == "copy", b.listed_in == listed_in)
    rows = connection.execute((query if after is None else query.where(b.first_id > after)).order_by(b.first_id))
    return [(row.first_id, row.manifest) for row in rows][:limit]


def _sources_fresh_by(fresh: Callable[..., Any]) -> tuple[tuple[Any, str, Any], ...]:
    return (cleaning, "fresh_from", fresh), (acts, "fresh_from", fresh)


FORGOTTEN = ((Work, "lands_within_s", lambda *_: 0.0),)
REPEATED = ((Lane, "_delete", _repeats),)

SAFEGUARDS = {
    "a frozen source is read when reads can show its last write": Safeguard(
        scripts.writes_last_and_freezes, ((deciding, "readable_from", lambda *_: None),)
    ),
    "a source is deleted when reads can show its last write, whole": Safeguard(
        scripts.writes_until_the_cut_over, _sources_fresh_by(_fresh_at_once), "delta"
    ),
    "a source is deleted when reads can show its last write, by ids": Safeguard(
        scripts.writes_until_the_cut_over_by_ids, _sources_fresh_by(_fresh_at_once), "delta"
    ),
    "an index is emptied of what reads show once its writers have stopped": Safeguard(
        scripts.is_wiped_right_after_a_write, ((whole_indexes, "wait_for_reads", lambda *_: None),)
    ),
    "a look that came too early is no evidence, whole": Safeguard(
        scripts.is_cleaned, _sources_fresh_by(_fresh_at_once), "delta"
    ),
    "a look that came too early is no evidence, by ids": Safeguard(
        scripts.is_cleaned_by_ids, _sources_fresh_by(_fresh_at_once), "delta"
    ),
    "what a deletion rests on is on record, whole": Safeguard(
        scripts.is_cleaned, ((deletions, "note_whole", lambda *_, **__: None),)
    ),
    "what a deletion rests on is on record, by ids": Safeguard(
        scripts.is_cleaned_by_ids, ((deletions, "note_reading", lambda *_: None),)
    ),
    "two quiet passes are a wait apart": Safeguard(
        scripts.writes_while_it_is_copied, ((deciding, "next_pass_at", lambda _: None),), "delta"
    ),
    "a number that one look showed is not what the next look shows": Safeguard(
        scripts.writes_while_it_is_copied,
        ((unchanged, "reading_shows", lambda *_: True),),
        "delta",
        fresh=(*TARGETS, f"query of {ALMA}"),
    ),
    "a source outlives every route that leads to it": Safeguard(
        scripts.writes_by_an_old_route, _sources_fresh_by(_fresh_without_old_routes), "delta"
    ),
    "a job is not given up under its readers": Safeguard(
        scripts.is_given_up_after_its_cut_over, ((refusals, "cancel", lambda *_: None),), "delta"
    ),
    "migrated_from is never kept": Safeguard(
        scripts.comes_from_elsewhere_and_goes_back, ((enriching, "enriched", _keeps),)
    ),
    "a deletion is not repeated blind, whole": Safeguard(scripts.is_deleted_whole_and_nobody_hears_of_it, REPEATED),
    "a deletion is not repeated blind, by ids": Safeguard(scripts.is_deleted_by_ids_and_nobody_hears_of_it, REPEATED),
    "a deletion without an answer is not forgotten, whole": Safeguard(
        scripts.lands_late_whole, FORGOTTEN, fresh=(*TARGETS, ALMA)
    ),
    "a deletion without an answer is not forgotten, by ids": Safeguard(
        scripts.lands_late_by_ids, FORGOTTEN, fresh=(*TARGETS, ALMA)
    ),
    "what a target lost keeps its sources": Safeguard(
        scripts.loses_a_small_target,
        ((caps, "against_missing", _against_missing_of_source),),
        fresh=("creator_ana_twin_x", "creator_bob_twin_x"),
    ),
    "what somebody else writes to a target that was there is not replaced": Safeguard(
        scripts.somebody_else_writes_to_a_target_that_was_there, ((choosing, "held_by_others", lambda *_: set()),)
    ),
    "an alias makes way for the namespace of its name": Safeguard(
        scripts.leaves_an_alias_and_goes_back, ((target_namespaces, "_remove_the_alias_left", lambda *_: None),)
    ),
    "a last write that the service no longer gives proves nothing": Safeguard(
        scripts.is_changed_and_no_sequence_tells, ((cleaning, "_require_fresh_proof", _trusts_silence),)
    ),
    "a certificate waits until reads show the last copy": Safeguard(
        scripts.is_copied_and_erased, ((erasures, "_last_landing", lambda *_: None),), fresh=(ALMA,)
    ),
    "what a route leads to is not cleaned up": Safeguard(
        scripts.is_copied_on_without_its_tenant, ((clean_up_guards, "against_routes", lambda _: []),)
    ),
    "what a route leads to is not rolled back": Safeguard(
        scripts.is_rolled_back_though_another_job_leads_its_tenant_there, ((refusals, "against_routes", lambda _: []),)
    ),
    "what an ended job left is taken back once reads show what was written since": Safeguard(
        scripts.is_taken_back_right_after_its_copy_was_used,
        ((acts, "both_sides_fresh_from", lambda asked_at, _: asked_at),),
        fresh=(),
    ),
    "lost commits are noticed": Safeguard(
        scripts.is_put_back_before_its_cut_over, ((dispatcher, "lost", lambda *_: None),), fresh=(*TARGETS, ALMA)
    ),
    "after lost commits everything is proven anew": Safeguard(
        scripts.is_put_back_before_its_deletion, ((cleanup, "prove_again", lambda *_: None),), fresh=(*TARGETS, ALMA)
    ),
    "a batch without ids is not the beginning": Safeguard(
        scripts.is_erased_between_two_passes, ((listings, "manifest_page", _with_the_emptied),), "delta"
    ),
}


@pytest.mark.parametrize("safeguard", SAFEGUARDS)
def test_where_a_safeguard_is_taken_out_a_law_is_broken(
    world: World, monkeypatch: pytest.MonkeyPatch, safeguard: str
) -> None:
    one = SAFEGUARDS[safeguard]
    # Given lives in which everything is in place, and the laws hold
    well = lived(world, one, GOOD)
    assert well is None, well
    # When the safeguard is taken out
    for place, name, old in one.taken_out:
        monkeypatch.setattr(place, name, old)
    # Then the store finds what it was made for
    broken = lived(world, one, AT_MOST)
    assert broken is not None, f"no law is broken in {AT_MOST} lives"
    print(f"{safeguard}: {broken}")


def test_in_any_order_over_a_store_that_lags_the_laws_hold(world: World) -> None:
    lives: list[Anything] = []

    class Here(Anything):
        def __init__(self) -> None:
            super().__init__()
            lives.append(self)

    Here.world = world
    try:
        run_state_machine_as_test(Here, settings=bounded(IN_ANY_ORDER, stateful_step_count=20))
    except AssertionError as law:
        pytest.fail(str(Broken(len(lives), str(law), lives[-1].life.index.story.read())))
    began = [one.life for one in lives if hasattr(one, "life")]
    assert any(life.jobs for life in began)
    back = sum(len(life.jobs) > 1 for life in began), sum(life.application.taken_back for life in began)
    lost = sum(len(life.laws.losses) for life in began)
    print(
        f"the laws hold in {len(lives)} lives; {back[0]} go back by a plan, in {back[1]} readers are taken back, "
        f"{lost} times Postgres is an older copy"
    )
