"""A job with a maintenance window: it waits for it, says so, and is done in it alone."""

from datetime import UTC, datetime, timedelta

from migrations.window import Window
from orchestrator.core.states import JobState
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index
from tests.stories.world import SMALL, WHO, OpenWorld


def test_a_job_waits_for_its_window_and_says_until_when(open_world: OpenWorld) -> None:
    # Given a job whose window opens in six hours, in a zone of its own, and a fleet with nothing else to do
    world = open_world()
    before = world.fill(alma=30, bruno=20)
    world.start(workers=1)
    begin = datetime.now(UTC) + timedelta(hours=6)
    window = Window(opens=f"{begin:%H:%M}", closes=f"{begin + timedelta(hours=3):%H:%M}", zone="Etc/UTC")
    job_id = world.apply(world.plan(SMALL, window=window))

    # When the dispatcher has started it, then it says that it waits, and until when, and nothing was written
    world.reaches(job_id, JobState.RUNNING)
    opens = f"{begin:%Y-%m-%d %H:%M} UTC"
    said = world.until("it says that it waits", lambda: world.waits(job_id))
    assert f"it waits for its window ({window}), opens at {opens}; `vecfleet set {job_id} hours 2`" in said
    assert all(not batch["attempts"] for batch in world.batches(job_id))
    assert_same_index(world.emulator.dump(SMALL), before)

    # And when a person gives it two hours, then it is done
    acts.set_lever(world.fleet.database, job_id, WHO, "hours", 2)
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
