"""Whatever lies in a queue harms itself alone: it is set aside, no log quotes it, and the work goes on."""

import json
from typing import Any

import pytest
import redis

from orchestrator.core.states import QUEUES, JobState
from orchestrator.telemetry.counters import MESSAGES_SET_ASIDE, Counters
from tests.stories.world import SMALL, OpenWorld

pytestmark = pytest.mark.story

SECRET = "what-zoe-told-her-twin"


def message(
    body: Any, task: str = "vecfleet.copy_batch", content_type: str = "application/json", **headers: Any
) -> str:
    """As Kombu would have put it, but for what is wrong with it."""
    envelope = {
        "body": body if isinstance(body, str) else json.dumps(body),
        "content-type": content_type,
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": SECRET, "lang": "py", "argsrepr": SECRET, **headers},
        "properties": {
            "delivery_tag": SECRET,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "copy"},
            "priority": 0,
            "body_encoding": "utf-8",
        },
    }
    return json.dumps(envelope)


NO_FOLLOW_UPS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
OURS = [[1, 0], {}, NO_FOLLOW_UPS]
POISONS: dict[str, str | bytes] = {
    **{f"not JSON {n}": f"{SECRET} {n}" for n in range(10)},
    "not text": b"\xff\xfe" + SECRET.encode(),
    "nested too deeply": "[" * 100_000,
    "JSON, and no message": json.dumps([SECRET]),
    "a message without properties": json.dumps({"body": SECRET}),
    "another encoding of its body": message(OURS).replace('"body_encoding": "utf-8"', '"body_encoding": "base64"'),
    "another content type": message(SECRET, content_type="application/x-python-serialize"),
    "a body that is not JSON": message(SECRET),
    "a body without arguments": message({SECRET: SECRET}),
    "compressed, so it says": message(OURS, compression="application/x-gzip"),
    "another task": message(OURS, task=f"os.{SECRET}"),
    "a task of Celery's": message(OURS, task="celery.chord"),
    "no task": message(OURS).replace('"task"', '"tusk"'),
    "text for numbers": message([[SECRET, SECRET], {}, NO_FOLLOW_UPS]),
    "numbers that no table holds": message([[10**30, 10**30], {}, NO_FOLLOW_UPS]),
    "one argument more": message([[1, 0, SECRET], {}, NO_FOLLOW_UPS]),
    "a named argument": message([[1, 0], {SECRET: 1}, NO_FOLLOW_UPS]),
    "a follow-up": message([[1, 0], {}, {**NO_FOLLOW_UPS, "callbacks": [{"task": SECRET}]}]),
    "for next year": message(OURS, eta="2099-01-01T00:00:00+00:00"),
    "too large": message(OURS, padding=[]).replace("[[1, 0]", "[[1, 0" + " " * 1_000_000 + "]"),
}


def test_ten_messages_of_each_kind_in_each_queue_take_nothing_down(open_world: OpenWorld, redis_url: str) -> None:
    world = open_world()
    world.fill(alma=30, bruno=30)
    world.start(workers=2).until_all_answer()
    # When every queue, and what all workers listen to, hold much that nobody of ours sent
    with redis.Redis.from_url(redis_url) as client:
        for queue in QUEUES:
            client.lpush(f"vecfleet:{queue}", *POISONS.values())
        for poison in POISONS.values():
            client.publish("/0.celery.pidbox", poison)
        # Then it is taken off the queues and counted
        world.until("all is set aside", lambda: not any(client.llen(f"vecfleet:{queue}") for queue in QUEUES))
    counted = Counters(redis_url)
    wanted = len(QUEUES) * len(POISONS)
    world.until("all is counted", lambda: (counted.read() or {}).get(MESSAGES_SET_ASIDE, 0) >= wanted)
    # And the same workers work a job to its end
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    world.assert_all_alive()
    world.until_all_answer()
    # And their logs say what happened, and nothing of what it was
    logs = [worker.log.read_text() for worker in world.workers]
    assert all("is no wake-up and was set aside" in log for log in logs)
    assert not any(SECRET in log for log in logs)
