"""Seed 001, option C: a new index beside the old one, written to by the client, and the old one goes at last."""

import os
import subprocess

import pytest

from migrations.creators import Grouping
from migrations.plan import Policies
from migrations.recipes import Common, IndexOptions, plan_index
from orchestrator.core.states import JobState
from orchestrator.services import acts
from orchestrator.web.applications import JobTableRoutes
from tests.stories.emulated import CREATOR, as_twins, assert_same_index, target_of
from tests.stories.launching import type_out
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World
from vecfleet.errors import Refused
from vecfleet.tenancy import CachedRoutes, PineconeDelphiClient, Rollout

pytestmark = pytest.mark.story

NEW = "digital-twin-delphi"


def decommission(world: World, **settings: str) -> subprocess.CompletedProcess[str]:
    return type_out("decommission", SMALL, "--yes", env=os.environ | world.env | settings)


def test_an_application_goes_from_one_index_to_another_without_a_stop_and_the_old_one_is_deleted(
    open_world: OpenWorld,
) -> None:
    # Given a plan into a new index, and an application whose client knows the old one's name only
    world = open_world()
    world.fill(alma=120, bruno=20)
    common = Common(policies=Policies(soak_seconds=0, writers="dual"))
    options = IndexOptions(source=SMALL, target=NEW, grouping=Grouping(creator=CREATOR), common=common)
    job_id = world.apply(plan_index(world.fleet.store, options, now=NOW))
    rollout = Rollout(CachedRoutes(JobTableRoutes(world.fleet.database), cache_s=0.2), flag=False)
    client = PineconeDelphiClient(SMALL, settings=world.fleet.settings, rollout=rollout)
    # When it writes before, while and after everything is copied
    world.until("it writes to both", lambda: rollout.where(CREATOR, "alma").dual)
    client.upsert_vectors([{"id": "first", "values": [1.0] * 8}], CREATOR, "alma")
    world.start(workers=1)
    world.until("something is copied", lambda: world.move(job_id, "alma").written)
    client.upsert_vectors([{"id": "alma-1", "values": [2.0] * 8}], CREATOR, "alma")
    world.reaches(job_id, JobState.VERIFIED)
    client.delete_vectors(["alma-2"], CREATOR, "alma")
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.until("it has begun", lambda: world.job(job_id).state is not JobState.COPIED)
    world.reaches(job_id, JobState.VERIFIED)
    # Then the two indexes hold the same
    assert client.journal.count() == 0
    old = world.emulator.dump(SMALL)
    assert_same_index(world.emulator.dump(NEW), as_twins(old))
    assert "first" in old["alma"] and "alma-2" not in old["alma"]

    # And once readers have moved and the old one is cleaned up, it is deleted after a week, and not before
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    assert "job 1 works on it" in decommission(world).stderr
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    early = decommission(world)
    assert early.returncode == 3 and "job 1 is watched until" in early.stderr
    gone = decommission(world, DECOMMISSION_AFTER_DAYS="0")
    assert gone.returncode == 0, gone.stderr
    assert [info.name for info in world.fleet.store.indexes()] == [NEW]
    # And the application goes on
    world.until("one side is left", lambda: not rollout.where(CREATOR, "alma").dual)
    client.upsert_vectors([{"id": "last", "values": [3.0] * 8}], CREATOR, "alma")
    assert client.query([3.0] * 8, CREATOR, "alma", top_k=200).matches[0].namespace == target_of("alma")
    assert "last" in world.emulator.records(NEW, target_of("alma"))


def test_a_tenant_stays_where_a_route_leads_until_a_cut_over_leads_on(open_world: OpenWorld) -> None:
    # Given an application that follows the routes of a job that is over
    world = open_world()
    world.fill(alma=20)
    world.start(workers=1)
    first = world.apply(world.plan(SMALL))
    world.reaches(first, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, first, WHO, 100)
    acts.clean_up(world.fleet.database, first, WHO, by_ids=False)
    world.reaches(first, JobState.CLEANED)
    rollout = Rollout(CachedRoutes(JobTableRoutes(world.fleet.database), cache_s=0.2), flag=False)
    client = PineconeDelphiClient(SMALL, settings=world.fleet.settings, rollout=rollout)

    # When a plan that names no tenant takes everything into another index, then nobody deletes what they read
    options = IndexOptions(source=SMALL, target=NEW, common=Common(policies=Policies(soak_seconds=0)))
    second = world.apply(plan_index(world.fleet.store, options, now=NOW))
    world.reaches(second, JobState.VERIFIED)
    with pytest.raises(Refused, match="routes of job 1 lead 1 tenant to what would be deleted"):
        acts.clean_up(world.fleet.database, second, WHO, by_ids=False)

    # And once its readers are moved they are, and the old index goes
    acts.cut_over(world.fleet.database, second, WHO, 100)
    acts.clean_up(world.fleet.database, second, WHO, by_ids=False)
    world.reaches(second, JobState.CLEANED)
    gone = decommission(world, DECOMMISSION_AFTER_DAYS="0")
    assert gone.returncode == 0, gone.stderr
    world.until("they are led on", lambda: rollout.where(CREATOR, "alma").job == second)
    assert len(client.query([1.0] * 8, CREATOR, "alma", top_k=200).matches) == 20
    client.upsert_vectors([{"id": "last", "values": [3.0] * 8}], CREATOR, "alma")
    assert "last" in world.emulator.records(NEW, target_of("alma"))
