"""Anything in any order, over the adversary's store: Hypothesis chooses events, looks, landings and deaths alike."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orchestrator.core.states import JobState
from tests.machine.acting import Stop
from tests.machine.jobs import World
from tests.machine.lives import ALMA, BRUNO, FRESHNESS_S, LAG_S, LEASE_S, Drawn, Life
from tests.machine.people import record
from tests.machine.scripts import apply_way_back, come_to
from vecfleet.errors import BadPlan, Refused

KINDS = ("list", "copy", "verify", "survey", "recheck", "clear", "remove", "compare", "undo", "drop")
WHERE = (
    *("begin", "committed", "statement", "fetch", "fetch answered", "list answered", "upsert", "upsert answered"),
    *("delete", "delete answered", "delete_namespace", "delete_namespace answered"),
)
STOPS = st.builds(Stop, st.sampled_from(WHERE), st.sampled_from(("freezes", "dies")))
ASKED = (
    *("pause", "resume", "verify", "pass", "cut over", "reverse", "clean up", "clean up by ids", "roll back"),
    *("retry", "cancel"),
)
# How far a job is, in which nothing has gone wrong yet, when everybody begins to do what they like.
STAGES = ("applied", "applied", "verified", "cut over", "cleaned")
IDS = st.sampled_from("abcde")
HELD = {ALMA: "ab", BRUNO: "c"}


class Anything(RuleBasedStateMachine):
    """Two namespaces become a creator's twins while everybody does what they like."""

    world: World  # set by the test that runs the machine
    life: Life

    @initialize(
        data=st.data(),
        writers=st.sampled_from(("freeze", "delta", "dual")),
        cut_over=st.sampled_from(("none", "operator")),
        alone=st.booleans(),
        stage=st.sampled_from(STAGES),
        rounds=st.integers(0, 12),
        backed_up=st.booleans(),
    )
    def begin(
        self, data: Any, writers: Any, cut_over: str, alone: bool, stage: str, rounds: int, backed_up: bool
    ) -> None:
        """A job that came so far and is some rounds older, of an application that wrote a moment before it.

        `alone`: without strangers. `backed_up`: a copy of Postgres is kept of when it came so far.
        """
        self.life = life = Life(self.world, Drawn(data), writers)
        self.alone = alone
        for source, names in HELD.items():
            life.holds(source, *names)
        life.settles()
        life.application.writes(ALMA, record("b", "newer"))
        life.applies(ALMA, BRUNO, cut_over=cut_over, soak_seconds=0, max_passes=60)
        come_to(life, stage, moves_readers=cut_over != "none")
        if backed_up:
            life.backs_up()
        life.index.unruly = True
        for _ in range(rounds):
            life.round()

    @rule(rounds=st.integers(1, 6))
    def the_fleet_works(self, rounds: int) -> None:
        for _ in range(rounds):
            self.life.round()

    @rule(window=st.integers(1, 4))
    def two_dispatchers_think_that_they_lead(self, window: int) -> None:
        self.life.round_of_two(window)

    @rule(kind=st.sampled_from(KINDS), stop=STOPS)
    def a_worker_stops(self, kind: str, stop: Stop) -> None:
        self.life.stops = {kind: stop}
        self.life.round()
        self.life.stops = {}

    @precondition(lambda self: self.life.frozen)
    @rule()
    def frozen_workers_wake_up(self) -> None:
        self.life.thaws()

    @rule(seconds=st.sampled_from((5.0, LAG_S / 2, FRESHNESS_S + 1, LEASE_S + 1)))
    def time_passes(self, seconds: float) -> None:
        self.life.passes(seconds)
        self.life.reap()
        self.life.laws.hold()

    @rule(name=IDS, version=st.integers(0, 9), stale=st.booleans())
    def the_application_writes(self, name: str, version: int, stale: bool) -> None:
        source = BRUNO if name == "c" else ALMA
        self.life.application.writes(source, record(name, f"version {version}"), stale_route=stale)
        self.life.laws.hold()

    @rule(name=IDS)
    def the_application_deletes(self, name: str) -> None:
        self.life.application.deletes(BRUNO if name == "c" else ALMA, name)
        self.life.laws.hold()

    @precondition(lambda self: not self.alone)
    @rule(name=IDS, at_target=st.booleans(), gone=st.booleans())
    def a_stranger_comes_by(self, name: str, at_target: bool, gone: bool) -> None:
        source = BRUNO if name == "c" else ALMA
        namespace = f"creator_ana_twin_{source}" if at_target else source
        if namespace in self.life.index.real_aliases():
            return
        if gone:
            self.life.strangers.delete(namespace, name)
        else:
            self.life.strangers.write(namespace, record(name, "by somebody else"))
        self.life.laws.hold()

    @rule(what=st.sampled_from(ASKED))
    def a_person_asks(self, what: str) -> None:
        if what == "roll back":
            self.life.application.writers = "freeze"  # whoever rolls back has stopped the writers of the new side
        self.life.asks(what)
        self.life.laws.hold()

    @precondition(lambda self: self.life.table.job.state is JobState.CLEANED and len(self.life.jobs) == 1)
    @rule()
    def a_person_goes_back(self) -> None:
        try:
            apply_way_back(self.life)
        except (BadPlan, Refused) as refusal:
            self.life.index.story.tell(f"the way back is refused: {refusal.message}")

    @precondition(lambda self: self.life.backup is None)
    @rule()
    def somebody_keeps_a_copy_of_postgres(self) -> None:
        self.life.backs_up()

    @precondition(lambda self: self.life.may_be_restored)
    @rule(wake_up_first=st.booleans(), resumed=st.booleans())
    def postgres_comes_back_older_than_it_was(self, wake_up_first: bool, resumed: bool) -> None:
        """Frozen workers may wake up before a dispatcher looks. `resumed`: by a person, when all sent shows."""
        self.life.restores()
        if wake_up_first:
            self.life.thaws()
        if resumed:
            self.life.passes(LEASE_S + FRESHNESS_S + 1)
            for _ in range(3):
                self.life.round()
            self.a_person_asks("resume")

    @precondition(lambda self: self.life.table.job.doubted_at is not None)
    @rule(what=st.sampled_from(("resume", "verify", "accept", "retry", "cut over", "doubt 0")))
    def a_person_goes_on_after_lost_commits(self, what: str) -> None:
        """Only who has compared both sides says that there is no doubt any more: docs/what-if.md."""
        if what != "doubt 0" or self.life.is_all_at_its_source:
            self.a_person_asks(what)

    def teardown(self) -> None:
        if hasattr(self, "life"):
            try:
                self.life.index.unruly = False
                self.life.ends()
            finally:
                self.life.close()
