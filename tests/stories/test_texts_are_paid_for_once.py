"""An index is embedded anew while everything dies: each text is paid for once, each vector is the model's."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa

from migrations.embedding import Embedding
from migrations.plan import Plan, Policies
from migrations.recipes import Common
from migrations.reembedding import ReembedOptions, plan_reembed
from orchestrator.core.states import JobState
from orchestrator.ledger import tables as t
from orchestrator.services import acts
from tests.embedding_service import KEY, EmbeddingService, serving
from tests.stories.emulated import Rows, row
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World
from vecfleet.embedders.opening import look_up, open_model

pytestmark = pytest.mark.story

NEW = "small-anew"
MODEL = "openai/any-name"
# A call that is not answered is waited for, and its lease lasts, until the story has looked, however busy the machine.
LONG = {"lease_seconds": 240, "request_deadline_seconds": 120}
# A worker that dies while a question to the model is under way has it asked, and billed, again: no client could tell.
# With one thread nothing else is under way when it dies where the story says.
ONE_AT_A_TIME = {"worker_threads": 1}


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with serving() as service:
        service.dimension = 16
        yield service


@pytest.fixture
def world(open_world: OpenWorld, service: EmbeddingService) -> World:
    """Sixty records with thirty different texts in two namespaces, and a service that counts what it bills."""
    world = open_world(openai_base_url=service.url, openai_api_key=KEY, **LONG, **ONE_AT_A_TIME)
    world.emulator.create_index(SMALL)
    for name in ("alma", "bruno"):
        world.emulator.write(SMALL, name, [row(f"{name}-{n}", text=text_of(name, n), page=n) for n in range(30)])
    return world


def text_of(name: str, n: int) -> str:
    """Ten texts are in both namespaces, and ten of each are those of two records."""
    return f"what is said of {'both' if n < 10 else name}, {n % 10}"


def plan(world: World, **policies: object) -> Plan:
    card = look_up(MODEL, world.fleet.settings)
    common = Common(policies=Policies.model_validate({"soak_seconds": 0, **policies}))
    options = ReembedOptions(source=SMALL, target=NEW, embedding=Embedding(card=card, text="{text}"), common=common)
    model = open_model(card, world.fleet.settings)
    return plan_reembed(world.fleet.store, world.fleet.store, options, model=model, now=NOW)


def texts(world: World) -> Counter[str]:
    return Counter(
        {str(one.metadata["text"]): 1 for rows in world.emulator.dump(SMALL).values() for one in rows.values()}
    )


def assert_embedded(world: World, service: EmbeddingService, before: dict[str, Rows]) -> None:
    """Every record is there with its metadata and the vector that the service gives for its text."""
    there = world.emulator.dump(NEW)
    assert set(there) == set(before)
    for name, rows in before.items():
        assert set(there[name]) == set(rows)
        for record_id, one in rows.items():
            held = there[name][record_id]
            assert held.metadata == one.metadata
            wanted = np.asarray(service.vector(str(one.metadata["text"])), "<f4").tobytes()
            assert held.values == wanted, record_id


def die_at(world: World, call: str, **fault: object) -> None:
    """A worker of its own dies while it waits for the answer to this call, and its leases run out."""
    world.emulator.fault(operation=call, hang=True, count=1, **fault)
    worker = world.start_worker()
    world.until(f"the worker waits for {call}", lambda: world.emulator.struck())
    world.kill(worker)
    world.emulator.no_faults()
    world.lapse(worker)


def work_until(world: World, job_id: int, state: JobState) -> None:
    worker = world.start_worker()
    world.reaches(job_id, state)
    world.kill(worker)
    world.lapse(worker)


def test_workers_that_die_at_every_step_pay_for_each_text_once(world: World, service: EmbeddingService) -> None:
    before = world.emulator.dump(SMALL)
    made = plan(world)
    wanted, probe = texts(world), Counter(service.billed)
    world.start_dispatcher()
    job_id = world.apply(made)
    # When workers die while they list, while they read, and after an upsert that nobody answered
    die_at(world, "list")
    die_at(world, "fetch")
    die_at(world, "upsert", apply_first=True)
    work_until(world, job_id, JobState.VERIFIED)
    # Then every record has the vector of its text, and each text was billed once
    assert_embedded(world, service, before)
    assert service.billed - probe == wanted
    # And neither another verification nor a clean-up costs a text more, even if the cache is gone by then
    with world.fleet.database.begin() as connection:
        connection.execute(sa.delete(t.embedding))
    acts.verify(world.fleet.database, job_id, WHO)
    die_at(world, "fetch", index=NEW)
    work_until(world, job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    die_at(world, "delete_namespace", apply_first=True)
    work_until(world, job_id, JobState.CLEANED)
    assert_embedded(world, service, before)
    assert service.billed - probe == wanted
    world.assert_accounts(job_id)


def test_a_roll_back_pays_for_no_text(world: World, service: EmbeddingService) -> None:
    before = world.emulator.dump(SMALL)
    made = plan(world)
    world.start_dispatcher()
    job_id = world.apply(made)
    die_at(world, "upsert", apply_first=True)
    acts.cancel(world.fleet.database, job_id, WHO)
    billed = Counter(service.billed)
    work_until(world, job_id, JobState.CANCELLED)
    acts.roll_back(world.fleet.database, job_id, WHO, None)
    work_until(world, job_id, JobState.ROLLED_BACK)
    assert not any(world.emulator.dump(NEW).values())
    assert world.emulator.dump(SMALL) == before
    assert service.billed == billed


def test_a_later_pass_pays_only_for_what_the_application_wrote(world: World, service: EmbeddingService) -> None:
    made = plan(world, writers="delta")
    wanted, probe = texts(world), Counter(service.billed)
    world.start(workers=2)
    job_id = world.apply(made)
    world.reaches(job_id, JobState.VERIFIED)
    # When the application changes a text, adds a record of a known text, and takes one away
    world.emulator.write(SMALL, "alma", [row("alma-1", text="a new text"), row("new", text=text_of("bruno", 10))])
    world.emulator.delete(SMALL, "bruno", "bruno-3")
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.until("another pass is over", lambda: world.job(job_id).passes > 2)
    world.reaches(job_id, JobState.VERIFIED)
    # Then the target holds what the source holds, and one text more was billed
    assert_embedded(world, service, world.emulator.dump(SMALL))
    assert service.billed - probe == wanted + Counter({"a new text": 1})
