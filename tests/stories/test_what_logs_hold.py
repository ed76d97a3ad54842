"""Logs say what happened to which batch. They hold no key, no password, no record id and no metadata, even at DEBUG."""

import json
import signal
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from orchestrator.core.states import JobState
from orchestrator.embedded import programs
from orchestrator.embedded.ports import claim_port
from orchestrator.services import acts
from tests.stories.emulated import row, target_of
from tests.stories.launching import cold
from tests.stories.serving import served
from tests.stories.world import PATIENCE_S, SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story

ID = "id-that-names-zoe"
TEXT = "what zoe told her twin"
KEYS = {
    "pinecone_api_key": "pcsk_a-key-that-nobody-logs",
    "operator_token": "a-token-that-nobody-logs",
    "flower_password": "a-flower-password-that-nobody-logs",
    "supabase_service_role_key": "a-role-key-that-nobody-logs",
    "webhook_url": "http://127.0.0.1:1/a-webhook-that-nobody-logs",
}
REDIS_PASSWORD = "a-redis-password-that-nobody-logs"


@pytest.fixture
def guarded_redis_url(redis_url: str) -> Iterator[str]:
    """The Redis of the tests, with another password for as long as a test lasts."""
    address = urlsplit(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", REDIS_PASSWORD)
        client.execute_command("AUTH", REDIS_PASSWORD)
        yield address._replace(netloc=f":{REDIS_PASSWORD}@{address.hostname}:{address.port}").geturl()
        client.config_set("requirepass", address.password or "")


def test_a_whole_run_at_debug_tells_no_secret_and_nothing_of_records(
    open_world: OpenWorld, guarded_redis_url: str, database_url: str
) -> None:
    world = open_world(redis_url=guarded_redis_url, launch=cold, log_level="DEBUG", log_format="json", **KEYS)
    # Given records with ids and texts that would be recognised, and a service that fails in many ways, quoting them
    world.emulator.create_index(SMALL)
    for namespace in ("alma", "bruno"):
        rows = [row(f"{ID}-{namespace}-{n}", chunk_text=f"{TEXT} {n}") for n in range(30)]
        world.emulator.write(SMALL, namespace, rows)
    quoting = f"the record {ID}-alma-1 says {TEXT!r}"
    for status in (503, 429, 400):
        world.emulator.fault(operation="upsert", namespace=target_of("alma"), status=status, message=quoting, count=2)
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message=quoting, count=1)
    world.emulator.fault(operation="fetch", drop=True, count=1)
    # When a fleet with its page and Flower runs a job to the end, all of it at DEBUG
    flower = programs.flower(world.folder, world.env, claim_port(world.folder, "flower"))
    flower.command = [*flower.command, "--logging=debug"]
    flower.start()
    with served(world) as address:
        world.start(workers=2)
        job_id = world.apply(world.plan(SMALL))
        while world.reaches(job_id, JobState.VERIFIED, JobState.NEEDS_ATTENTION).state is JobState.NEEDS_ATTENTION:
            acts.retry(world.fleet.database, job_id, WHO, "all")
        acts.cut_over(world.fleet.database, job_id, WHO, 100)
        acts.clean_up(world.fleet.database, job_id, WHO, by_ids=True)
        world.reaches(job_id, JobState.CLEANED)
        operator = {"Authorization": f"Bearer {KEYS['operator_token']}"}
        assert httpx.get(f"{address}/jobs/{job_id}", headers=operator).is_success
        account = ("vecfleet", KEYS["flower_password"])
        assert httpx.get(f"http://127.0.0.1:{flower.port}/tasks", auth=account).is_success
    flower.stop()
    told_to_stop(world)
    # Then the logs tell of it: the workers' and the dispatcher's as JSON, with job, namespace and batch
    logs = {path.name: path.read_text() for path in world.folder.rglob("*.log")}
    assert {"worker1.log", "dispatcher1.log", "serve.log", "flower.log", "emulator.log"} <= set(logs)
    workers = "\n".join(log for name, log in logs.items() if name.startswith("worker"))  # either may have met faults
    events = [json.loads(line) for line in workers.splitlines() if line.startswith("{")]
    assert any({"job", "namespace", "batch", "level", "timestamp"} <= set(event) for event in events)
    assert any(event["level"] == "debug" for event in events)
    # And nothing that is secret, or a person's
    password = urlsplit(database_url).password
    assert password
    for secret in (ID, TEXT, password, REDIS_PASSWORD, *KEYS.values()):
        assert [name for name, log in logs.items() if secret in log] == [], secret


def told_to_stop(world: World) -> None:
    """Every process says its last words."""
    for process in (*world.workers, *world.dispatchers):
        assert process.child is not None
        process.child.send_signal(signal.SIGTERM)
        process.child.wait(timeout=PATIENCE_S)
