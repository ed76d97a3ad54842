"""The monitor counts, stays small, and tells people once."""

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.contracts.answering import Answer, Answering
from tests.tenancy.conftest import SMALL
from vecfleet.tenancy import PineconeDelphiClient, QueryMetrics
from vecfleet.tenancy import monitor as monitor_module
from vecfleet.tenancy.keep_alive import HotNamespaces, KeepAlive
from vecfleet.tenancy.monitor import PineconeMonitor
from vecfleet.tenancy.notifier import Webhook


class Told:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def send(self, text: str) -> None:
        self.messages.append(text)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def query(latency_ms: float = 10.0, error: str | None = None, namespace: str = "n") -> QueryMetrics:
    return QueryMetrics(latency_ms=latency_ms, namespace=namespace, top_k=10, result_count=1, error=error)


def test_the_six_figures_of_the_seed() -> None:
    monitor = PineconeMonitor(registry=CollectorRegistry())
    assert monitor.get_stats() == {}

    for latency in range(1, 101):
        monitor.record_query(query(float(latency), error="Unavailable" if latency == 100 else None))

    assert monitor.get_stats() == {
        "total_queries": 100,
        "error_count": 1,
        "error_rate": 0.01,
        "p50_latency": 51.0,
        "p95_latency": 96.0,
        "p99_latency": 100.0,
    }


def test_samples_are_bounded_and_counts_are_not() -> None:
    monitor = PineconeMonitor(registry=CollectorRegistry(), samples=50)
    for _ in range(1_000):
        monitor.record_query(query())

    assert len(monitor.latencies) == 50
    assert monitor.get_stats()["total_queries"] == 1_000


def test_it_knows_the_namespaces_that_are_queried_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monitor = PineconeMonitor(registry=CollectorRegistry(), clock=clock)
    for number in range(12):
        for _ in range(number + 1):
            monitor.record_query(query(namespace=f"n{number}"))
    # The ten with the most queries, those that failed among them
    monitor.record_query(query(namespace="n0", error="Unavailable"))
    assert monitor.most_queried()[:2] == [("n11", 12), ("n10", 11)]
    assert len(monitor.most_queried()) == 10 and dict(monitor.most_queried(12))["n0"] == 2

    # Yesterday counts, and what was before is forgotten, names and all
    clock.now += 86_400
    monitor.record_query(query(namespace="n11"))
    assert monitor.most_queried(1) == [("n11", 13)]
    clock.now += 86_400
    assert monitor.most_queried() == [("n11", 1)]
    clock.now += 5 * 86_400
    assert monitor.most_queried() == []

    # And memory is bounded
    monkeypatch.setattr(monitor_module, "MOST_NAMESPACES", 2)
    for name in ("a", "b", "c", "a"):
        monitor.record_query(query(namespace=name))
    assert monitor.most_queried() == [("a", 2), ("b", 1)]


@pytest.mark.parametrize(
    ("latency", "error", "says"),
    [
        (101.0, None, "[ALERT] High latency: 101ms"),
        (501.0, None, "[ALERT] Cold query: 501ms"),
        (10.0, "Unavailable", "[ALERT] High error rate: 1/1"),
    ],
)
def test_what_passes_a_threshold_is_told_once_until_it_was_quiet_for_a_while(
    latency: float, error: str | None, says: str
) -> None:
    told, clock = Told(), Clock()
    monitor = PineconeMonitor(told, registry=CollectorRegistry(), clock=clock)

    for _ in range(5):
        monitor.record_query(query(latency, error))
    assert told.messages == [says]

    clock.now += 301
    monitor.record_query(query(latency, error))
    assert len(told.messages) == 2


@pytest.mark.parametrize(("latency", "says"), [(120.0, "p95 is 120ms"), (160.0, "PAGE: p95 is 160ms")])
def test_the_slowest_twentieth_warns_then_pages(latency: float, says: str) -> None:
    told = Told()
    monitor = PineconeMonitor(told, registry=CollectorRegistry())

    for number in range(100):
        monitor.record_query(query(latency if number % 10 == 0 else 10.0))

    assert any(says in message for message in told.messages)


def test_a_slow_erasure_is_told_and_a_quick_one_is_not() -> None:
    told = Told()
    monitor = PineconeMonitor(told, registry=CollectorRegistry())

    monitor.record_erasure(29.0)
    monitor.record_erasure(31.0)

    assert told.messages == ["[ALERT] Slow erasure: 31s, over 30s"]


def test_metrics_name_no_tenant() -> None:
    registry = CollectorRegistry()
    PineconeMonitor(registry=registry).record_query(query(namespace="creator_sainath.no.1"))

    text = generate_latest(registry).decode()

    assert 'vecfleet_queries_total{outcome="ok"} 1.0' in text
    assert "sainath" not in text


def test_an_alert_reaches_the_webhook_in_the_form_that_slack_takes() -> None:
    with Answering(lambda asked: Answer(200, {"ok": True})) as server:
        webhook = Webhook(f"{server.address}/hook")
        PineconeMonitor(webhook, registry=CollectorRegistry()).record_query(query(120.0))
        webhook.flush()

        assert [orjson.loads(asked.body) for asked in server.asked] == [{"text": "[ALERT] High latency: 120ms"}]


def test_a_webhook_that_fails_is_tried_again_and_then_let_be() -> None:
    with Answering(lambda asked: Answer(500, {})) as server:
        webhook = Webhook(f"{server.address}/hook")
        webhook.send("a")
        webhook.flush()
        assert len(server.asked) == 3
        webhook.send("b")
        webhook.flush()
        assert len(server.asked) == 6


def test_what_readers_come_back_to_is_kept_warm_and_the_rest_is_not(small: PineconeDelphiClient) -> None:
    # Given two namespaces that readers asked, and one they asked long ago
    clock = Clock()
    hot = HotNamespaces(clock=clock)
    vectors = [{"id": "a", "values": [1.0] * SMALL}]
    small.upsert_vectors(vectors, "c", "t")
    hot.seen(query(namespace="creator_c_twin_long-ago"))
    clock.now += 4_000
    hot.seen(query(namespace="creator_c_twin_t"))
    clock.now += 200
    hot.seen(query(namespace="creator_c_twin_busy"))
    clock.now += 150
    keep_alive = KeepAlive(small.serving, hot)

    # Then only the one that went quiet is asked, and once
    assert keep_alive.ask_due() == ["creator_c_twin_t"]
    assert keep_alive.ask_due() == []
    clock.now += 300
    assert sorted(keep_alive.ask_due()) == ["creator_c_twin_busy", "creator_c_twin_t"]
