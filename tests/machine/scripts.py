"""Lives that the adversary's store spoils where a safeguard is taken out: what people and applications do in each.

Hypothesis chooses what each look shows, and the times that are `chosen`; everything else is written down here.
"""

from datetime import UTC, datetime

from job_table import plan_of, planned

from migrations.estimating import Prices
from migrations.plan import PlannedMove
from migrations.reversing import plan_reverse
from orchestrator.core.states import JobState
from orchestrator.ledger import erased_ids
from tests.machine.acting import OneIndex, Stop
from tests.machine.lagging import OLDEST, Fate
from tests.machine.lives import ALMA, BRUNO, DEADLINE_S, LAG_S, LEASE_S, STALE_S, Life
from tests.machine.people import record
from vecfleet.errors import BadPlan, Refused
from vecfleet.names import DEFAULT

CLEARING, REMOVING = "clear", "remove"
MOST_TRIES = 60
NEVER = 1_000_000


def _cleaned(life: Life, how: str = "clean up") -> None:
    life.until(JobState.VERIFIED)
    life.asks(how)
    life.ends()


def _cut_over(life: Life) -> None:
    life.until(JobState.VERIFIED)
    life.asks("cut over")


def _asks_until_granted(life: Life, what: str) -> None:
    for _ in range(MOST_TRIES):
        if life.asks(what) is None:
            return
        life.round()
    raise AssertionError(f"nobody may {what}")


def come_to(life: Life, stage: str, *, moves_readers: bool) -> None:
    """Bring the job to "applied", "verified", "cut over" or "cleaned"; `moves_readers`: as its plan says."""
    if stage == "applied":
        return
    life.until(JobState.VERIFIED)
    if moves_readers and stage != "verified":
        life.asks("cut over")
    if stage == "cleaned":
        _asks_until_granted(life, "clean up")
        life.until(JobState.CLEANED)


def writes_last_and_freezes(life: Life) -> None:
    """One record is updated and one added right before the writers stop."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.application.writes(ALMA, record("b", "newer"))
    life.application.writes(ALMA, record("c"))
    life.passes(life.index.chance.number(5))
    life.applies(ALMA)
    _cleaned(life, "clean up")


def is_cleaned(life: Life, how: str = "clean up") -> None:
    """Nobody writes, and nothing lags that matters: what was copied is deleted."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    _cleaned(life, how)


def is_cleaned_by_ids(life: Life) -> None:
    is_cleaned(life, "clean up by ids")


def writes_while_it_is_copied(life: Life) -> None:
    """An application that knows nothing of us writes a moment before the sources are read."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA, cut_over="operator", soak_seconds=0, max_passes=40)
    life.application.writes(ALMA, record("b", "newer"))
    life.application.writes(ALMA, record("c"))
    _cut_over(life)
    life.ends()


def writes_until_the_cut_over(life: Life, how: str = "clean up") -> None:
    """It writes to the old side once more, after the last pass and right before the readers move."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA, cut_over="operator", soak_seconds=0, max_passes=40)
    life.until(JobState.VERIFIED)
    life.application.writes(ALMA, record("b", "newer"))
    life.application.writes(ALMA, record("c"))
    life.asks("cut over")
    _asks_until_granted(life, how)
    life.ends()


def writes_until_the_cut_over_by_ids(life: Life) -> None:
    writes_until_the_cut_over(life, "clean up by ids")


def is_given_up_after_its_cut_over(life: Life) -> None:
    """It is read once more while its readers are on the new side, and a person cancels it then."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA, cut_over="operator", soak_seconds=0, max_passes=40)
    _cut_over(life)
    life.application.writes(ALMA, record("b", "newer"))
    life.asks("pass")
    life.asks("cancel")
    life.ends()


def writes_by_an_old_route(life: Life) -> None:
    """Right after the cut-over somebody writes to the old side, by the route it read before."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA, cut_over="operator", soak_seconds=0, max_passes=40)
    _cut_over(life)
    life.asks("clean up")
    life.round()
    life.passes(life.index.chance.number(int(STALE_S / 2)))
    life.application.writes(ALMA, record("c"), stale_route=True)
    if life.table.job.state is JobState.CUT_OVER:
        _asks_until_granted(life, "clean up")
    life.ends()


def loses_a_small_target(life: Life) -> None:
    """A namespace of two owners is split; the smaller target goes after the cut-over."""
    life.holds(DEFAULT, *"abcdefghijkl", creator_id="bob", twin_id="x")
    life.holds(DEFAULT, *"mnopqrstu", creator_id="ana", twin_id="x")
    life.settles()
    life.apply(plan_of(planned(DEFAULT, None, 21), cut_over="operator", soak_seconds=0))
    _cut_over(life)
    life.strangers.drop("creator_ana_twin_x")
    life.settles()
    _asks_until_granted(life, "clean up")
    life.ends()


def comes_from_elsewhere_and_goes_back(life: Life) -> None:
    """A record says already that it was migrated from another source of the plan."""
    life.holds(ALMA, "a")
    life.holds(ALMA, "b", migrated_from=BRUNO)
    life.holds(BRUNO, "c")
    life.settles()
    life.applies(ALMA, BRUNO, conflicts="keep")
    _cleaned(life)
    _goes_back(life)


def leaves_an_alias_and_goes_back(life: Life) -> None:
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA, leave_alias=True)
    _cleaned(life)
    _goes_back(life)


def apply_way_back(life: Life) -> None:
    """Plan and apply what takes the job back. Raises BadPlan or Refused, and then nothing happened."""
    job, now = life.table.job, datetime.now(UTC)
    life.apply(plan_reverse(OneIndex(life.index), job.plan, list(life.table.targets), prices=Prices(), now=now))
    life.application.goes_back()


def _goes_back(life: Life) -> None:
    """By the reverse plan, as soon as it may be applied: then everything is where it was."""
    for _ in range(MOST_TRIES):
        try:
            apply_way_back(life)
            break
        except BadPlan as refusal:
            life.index.story.tell(f"the way back is refused: {refusal.message}")
            life.passes(5)
        except Refused as refusal:
            life.index.story.tell(f"the way back is refused: {refusal.message}")
            life.round()
    else:
        raise AssertionError("there is no way back")
    if life.until(JobState.VERIFIED) is JobState.NEEDS_ATTENTION:  # what lagged does not any more: once more
        life.settles()
        life.asks("retry")
        life.until(JobState.VERIFIED)
    life.asks("clean up")
    life.ends()
    for (source, name), newest in life.application.newest.items():
        assert life.index.truth(source).get(name) == newest.record, f"{source}/{name} did not come back as it was"


def _is_deleted_though_nobody_hears_of_it(life: Life, how: str, step: str, operation: str) -> None:
    """The answer to a deletion is lost, and somebody writes before it is sent again."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    life.until(JobState.VERIFIED)
    life.index.fates[operation] = [Fate(answered=False)]
    life.stops[step] = Stop(f"{operation} answered", "freezes")
    life.asks(how)
    _until_frozen(life)
    life.strangers.write(ALMA, record("a" if step == REMOVING else "n", "by somebody else"))
    life.thaws()
    life.ends()


def is_deleted_whole_and_nobody_hears_of_it(life: Life) -> None:
    _is_deleted_though_nobody_hears_of_it(life, "clean up", CLEARING, "delete_namespace")


def is_deleted_by_ids_and_nobody_hears_of_it(life: Life) -> None:
    _is_deleted_though_nobody_hears_of_it(life, "clean up by ids", REMOVING, "delete")


def _lands_late(life: Life, how: str, operation: str) -> None:
    """A deletion without an answer takes effect when somebody else may think that all is over."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    late = DEADLINE_S + LAG_S * life.index.chance.number(10) / 10
    life.index.fates[operation] = [Fate(answered=False, effects=(0.0, late))]
    life.until(JobState.VERIFIED)
    life.asks(how)
    life.until(JobState.CLEANED)
    new = record("a", "by somebody to whom the namespace is free")
    life.strangers.write(ALMA, new)
    life.ends()
    assert life.index.truth(ALMA).get("a") == new, "a deletion of an ended job took what was written since"


def lands_late_whole(life: Life) -> None:
    _lands_late(life, "clean up", "delete_namespace")


def lands_late_by_ids(life: Life) -> None:
    _lands_late(life, "clean up by ids", "delete")


def somebody_else_writes_to_a_target_that_was_there(life: Life) -> None:
    """Between two batches of the copy, an id that the second one is about to write for the first time."""
    target = "creator_ana_twin_alma"
    life.index.limits = life.small_batches
    life.holds(ALMA, "a", "b")
    life.strangers.write(target, record("q", "was there"))
    life.settles()
    life.applies(ALMA)
    life.stops["copy"] = Stop("upsert answered", "freezes")
    _until_frozen(life, window=1)
    life.strangers.write(target, record("b", "by somebody else"))
    life.settles()
    life.thaws()
    _cleaned(life)


def _until_frozen(life: Life, window: int = 8) -> None:
    for _ in range(MOST_TRIES):
        if life.frozen:
            return
        life.round(window)
    raise AssertionError("no worker came to the gate")


def is_changed_and_no_sequence_tells(life: Life) -> None:
    """A record changes once it was read again, and the service does not say so any more."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    life.until(JobState.VERIFIED)
    life.asks("clean up")
    for _ in range(MOST_TRIES):
        life.tick()
        if any(row.kind == CLEARING for row in life.table.rows()):
            break
        life.round()
    life.strangers.write(ALMA, record("a", "by somebody else"))
    life.settles()
    life.index.untold = MOST_TRIES
    life.ends()


def is_copied_and_erased(life: Life) -> None:
    """A tenant is erased right after its records were copied to where reads do not show them yet."""
    target = "creator_ana_twin_alma"
    life.holds(ALMA, "a", "b", creator_id="ana", twin_id="alma")
    life.settles()
    life.applies(ALMA)
    while not life.index.truth(target):
        life.round()
    # Whole namespaces are looked at by many threads at once: what they are shown is chosen before.
    life.index.moods.setdefault(ALMA, OLDEST * life.index.chance.number(1))
    life.index.moods[target] = OLDEST * life.index.chance.number(1)
    for _ in range(MOST_TRIES):
        if life.erases("ana"):
            break
        life.passes(5)
    life.settles()
    life.ends()


def is_put_back_before_its_cut_over(life: Life) -> None:
    """A record is changed where readers were moved to, and then nobody knows any more that they were."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA, cut_over="operator", soak_seconds=0)
    life.until(JobState.VERIFIED)
    life.backs_up()
    life.round()
    life.asks("cut over")
    life.application.writes(ALMA, record("b", "newer"))
    life.settles()
    life.restores()
    _goes_on_after_lost_commits(life)
    life.asks("verify")
    life.ends()


def is_put_back_before_its_deletion(life: Life) -> None:
    """A source was read again when the copy was made, and is changed in what is lost. No sequence tells that."""
    life.index.untold = NEVER
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    life.until(JobState.VERIFIED)
    life.asks("clean up")
    for _ in range(MOST_TRIES):
        life.tick()
        if any(row.kind == CLEARING for row in life.table.rows()):
            break
        life.round()
    life.backs_up()
    life.tick()
    life.strangers.write(ALMA, record("a", "by somebody else"))
    life.settles()
    life.restores()
    _goes_on_after_lost_commits(life)
    life.ends()


def _goes_on_after_lost_commits(life: Life) -> None:
    """A person resumes it once all that was sent before has shown."""
    life.until(JobState.VERIFIED, JobState.CLEANED, rounds=1)
    life.passes(LEASE_S + LAG_S)
    life.asks("resume")
    life.until(JobState.VERIFIED)


def _leads_its_tenant(life: Life, **policies: object) -> None:
    """A job moves the tenant's readers, and is over."""
    life.applies(ALMA, cut_over="operator", soak_seconds=0, **policies)
    _cut_over(life)
    _asks_until_granted(life, "finish")


def is_copied_on_without_its_tenant(life: Life) -> None:
    """A plan that names no tenant copies a namespace to which one is led, and somebody cleans up after it."""
    life.holds(ALMA, "a", "b")
    life.settles()
    _leads_its_tenant(life)
    life.apply(
        plan_of(PlannedMove(source="creator_ana_twin_alma", records=2, to="copy"), cut_over="none", enrich=False)
    )
    _cleaned(life)


def is_rolled_back_though_another_job_leads_its_tenant_there(life: Life) -> None:
    """A second job finds most records at the target and leads the tenant there; then the first one is rolled back."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    life.until(JobState.VERIFIED)
    _asks_until_granted(life, "finish")
    life.holds(ALMA, "c")
    life.settles()
    _leads_its_tenant(life, collisions="identical")
    life.jobs.reverse()
    life.tick()
    life.asks("roll back")
    life.ends()


def is_taken_back_right_after_its_copy_was_used(life: Life) -> None:
    """Both sides stayed: an application changes its copy, drops the old side, and a person takes the copy back."""
    target, newer = "creator_ana_twin_alma", record("b", "newer", creator_id="ana", twin_id="alma", migrated_from=ALMA)
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    life.until(JobState.VERIFIED)
    _asks_until_granted(life, "finish")
    life.settles()
    life.strangers.write(target, newer)
    life.strangers.drop(ALMA)
    life.passes(life.index.chance.number(5))
    life.asks("roll back")
    life.ends()
    there = life.index.truth(target)
    assert there.get("b") == newer, "what the application wrote to its copy is nowhere any more"
    assert "a" in there, "a last copy is taken back"


def is_wiped_right_after_a_write(life: Life) -> None:
    """The writers stop, and the index is exported and emptied."""
    life.holds(ALMA, "a", "b")
    life.settles()
    life.application.writes(ALMA, record("c"))
    life.passes(life.index.chance.number(5))
    life.index.moods[ALMA] = OLDEST * life.index.chance.number(1)  # chosen before: many threads look
    life.wipes()


def is_erased_between_two_passes(life: Life) -> None:
    """Of the ids that a pass listed some are erased, and the next pass finds new ones behind them."""
    life.index.limits = life.small_batches
    life.holds(ALMA, "a", "b")
    life.settles()
    life.applies(ALMA)
    for _ in range(MOST_TRIES):
        if life.table.job.passes == 2:
            break
        life.tick()
        life.round(window=1)
    [copy] = [row for row in life.table.rows() if row.kind == "copy" and row.first_id == "b"]
    life.application.deletes(ALMA, "b")
    with life.table.begin() as connection:
        erased_ids.remove_ids(connection, copy.id, {"b": None})
    life.index.story.tell("an erasure takes b out of the books")
    life.application.writes(ALMA, record("c"))
    life.ends()
