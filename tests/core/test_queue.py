"""The queue over another broker than Redis: the same wake-ups, and no option that only Redis knows."""

import ast

import amqp
import pytest
from kombu import transport
from kombu.transport import memory, pyamqp

from orchestrator import queue, rabbitmq
from orchestrator.core.model import Wakeup
from orchestrator.core.states import QUEUES, BatchKind
from vecfleet.settings import Settings


def wakeup(number: int, kind: BatchKind = BatchKind.COPY) -> Wakeup:
    return Wakeup(batch_id=number, generation=0, kind=kind, job_id=1, namespace="n", seq=number, of=3)


@pytest.mark.parametrize("broker", ["memory", "redis"])
def test_wake_ups_wait_in_any_broker_until_somebody_takes_them(broker: str, redis_url: str) -> None:
    memory.Transport.global_state.clear()
    celery = queue.make_app("memory://" if broker == "memory" else redis_url)
    assert queue.waiting(celery) == 0
    assert queue.send(celery, [wakeup(1), wakeup(2), wakeup(3, BatchKind.VERIFY)]) == []
    assert queue.waiting(celery) == 3


@pytest.mark.parametrize(
    ("kind", "seq", "of", "listed_all", "shown"),
    [
        (BatchKind.COPY, 3, 12, True, "3 of 12"),
        (BatchKind.COPY, 3, 7, False, "3 of at least 7"),
        (BatchKind.LIST, 0, 0, False, "whole"),
        (BatchKind.VERIFY, 2, 0, True, "2"),
        (BatchKind.QUERY, 0, 0, True, "1"),
    ],
)
def test_a_batch_has_its_number_and_the_total_as_far_as_it_is_known(
    kind: BatchKind, seq: int, of: int, listed_all: bool, shown: str
) -> None:
    sent = Wakeup(1, 0, kind, job_id=17, namespace="alma", seq=seq, of=of, listed_all=listed_all)
    assert ast.literal_eval(queue.kwargs_text(sent)) == {"job": 17, "namespace": "alma", "batch": shown}


def test_a_worker_that_is_told_nothing_serves_every_queue_and_every_task_finds_its_own() -> None:
    celery = queue.make_app("memory://")
    assert set(celery.amqp.queues.consume_from) == set(QUEUES)
    for name, own in queue.TASKS.values():
        routed = celery.amqp.router.route({}, name)
        assert (routed["queue"].name, routed["queue"].routing_key) == (own, own)


def test_rabbitmq_gets_our_client_also_where_kombu_used_its_own_before(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a process in which somebody connected by kombu's own client
    monkeypatch.setitem(transport.TRANSPORT_ALIASES, "amqp", "kombu.transport.pyamqp:Transport")
    transport._transport_cache.pop("amqp", None)
    assert transport.get_transport_cls("amqp") is pyamqp.Transport
    # When the fleet's app is made, then it does not wait for a RabbitMQ that blocks it
    app = queue.make_app("amqp://guest@127.0.0.1:1//")
    assert type(app.connection_for_write().transport) is rabbitmq.Transport


@pytest.mark.parametrize("broker", ["redis://:a-password@127.0.0.1:1/0", "amqp://fleet:a-password@127.0.0.1:1//"])
def test_what_celerys_tools_tell_of_a_fleet_names_no_password(broker: str) -> None:
    celery = queue.make_app(broker)
    assert "a-password" not in celery.bugreport() + str(celery.conf.table(with_defaults=True))


def test_rabbitmqs_client_knows_every_option_it_is_given() -> None:
    given = queue.make_app("amqp://guest@127.0.0.1:1//").conf.broker_transport_options
    # It refuses what it does not know; nothing is connected yet.
    assert amqp.Connection("127.0.0.1:1", **given).confirm_publish


def test_redis_keeps_the_pace_whoever_takes_the_wake_ups() -> None:
    redis, rabbit = "redis://127.0.0.1:6379/0", "amqp://rabbit"
    own = Settings(redis_url=redis)  # type: ignore[arg-type]
    both = Settings(redis_url=redis, broker_url=rabbit)  # type: ignore[arg-type]
    assert own.wake_ups is not None and own.wake_ups.get_secret_value() == redis
    assert both.wake_ups is not None and both.wake_ups.get_secret_value() == rabbit
    assert both.redis_url is not None and both.redis_url.get_secret_value() == redis


@pytest.mark.parametrize("broker", ["redis://:a-password@127.0.0.1:1/0", "amqp://user:a-password@127.0.0.1:1//"])
def test_a_broker_that_is_away_is_no_error_of_who_sends(broker: str) -> None:
    celery = queue.make_app(broker)
    sent = [wakeup(1)]
    assert queue.send(celery, sent) == sent
    assert queue.waiting(celery) == 0
    assert set(QUEUES) == {queue for _, queue in queue.TASKS.values()}
