"""The figures of `/metrics` as OTLP takes them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from receivers import receiver

from orchestrator.web.otlp import Export
from vecfleet.settings import Settings


def test_gauges_counters_and_histograms_arrive_with_their_labels_and_values() -> None:
    registry = CollectorRegistry()
    Gauge("vecfleet_jobs", "Jobs", ["state"], registry=registry).labels("running").set(3)
    Counter("vecfleet_calls", "Calls", ["answer"], registry=registry).labels("ok").inc(4)
    histogram = Histogram("vecfleet_seconds", "Seconds", ["step"], buckets=(0.5, 1, 2), registry=registry)
    for seconds in (0.1, 0.2, 1.5, 7):
        histogram.labels("copy").observe(seconds)
    with receiver() as received:
        Export(registry, Settings(otel_exporter_otlp_endpoint=received.address)).once()  # type: ignore[arg-type]
        metrics = received.metrics
    assert set(metrics) == {"vecfleet_jobs", "vecfleet_calls", "vecfleet_seconds"}
    [jobs] = metrics["vecfleet_jobs"].gauge.data_points
    assert jobs.as_double == 3 and jobs.attributes[0].value.string_value == "running"
    assert metrics["vecfleet_calls"].sum.is_monotonic
    [calls] = metrics["vecfleet_calls"].sum.data_points
    assert calls.as_double == 4 and calls.attributes[0].key == "answer"
    [seconds] = metrics["vecfleet_seconds"].histogram.data_points
    assert (seconds.count, round(seconds.sum, 1)) == (4, 8.8)
    assert list(seconds.explicit_bounds) == [0.5, 1, 2] and list(seconds.bucket_counts) == [2, 0, 1, 1]
    assert [one.value.string_value for one in seconds.attributes] == ["copy"]
    assert not seconds.HasField("min")
