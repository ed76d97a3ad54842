"""The figures of `/metrics`, sent by OTLP too where OTEL_EXPORTER_OTLP_ENDPOINT is set: the same names and labels.

Prometheus's `_total` is left out, for collectors add it to sums by themselves. Nothing is kept between two exports.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from orchestrator.telemetry import tracing
from vecfleet import __version__
from vecfleet.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

log = structlog.get_logger("vecfleet.web")

_Labels = tuple[tuple[str, str], ...]


class Export:
    """Sends every figure of a registry again and again, while `run` runs. Nothing rests on its arrival."""

    def __init__(self, registry: CollectorRegistry, settings: Settings) -> None:
        self._registry, self._every_s = registry, settings.otel_metric_export_interval / 1_000
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        except ImportError as error:
            raise tracing.not_installed("OTEL_EXPORTER_OTLP_ENDPOINT") from error
        self._exporter = OTLPMetricExporter(**tracing.destination(settings, "metrics"))
        self._resource = tracing.resource("web")
        self._began_ns = time.time_ns()

    async def run(self) -> None:
        """Export until cancelled. A collector that is away misses figures, and the next export has them as they are."""
        while True:
            try:
                await run_in_threadpool(self.once)
            except Exception as error:  # noqa: BLE001 - figures must end nothing
                log.warning("the metrics were not exported", why=type(error).__name__)
            await asyncio.sleep(self._every_s)

    def once(self) -> None:
        """Export every figure as it is now. The exporter logs what the collector did not take."""
        self._exporter.export(self._read())

    def _read(self) -> "MetricsData":
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        now_ns = time.time_ns()
        metrics = [as_otlp(family, self._began_ns, now_ns) for family in self._registry.collect()]
        scope = ScopeMetrics(InstrumentationScope("vecfleet", __version__), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])


def as_otlp(family: Metric, began_ns: int, now_ns: int) -> Any:
    """Return a family of Prometheus's as a metric of OTLP's: a sum, a histogram, or else a gauge."""
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Histogram, NumberDataPoint, Sum
    from opentelemetry.sdk.metrics.export import Metric as OtlpMetric

    data: Any
    if family.type == "histogram":
        data = Histogram(list(_histograms(family, began_ns, now_ns)), AggregationTemporality.CUMULATIVE)
    else:
        of_interest = [sample for sample in family.samples if not sample.name.endswith("_created")]
        points = [NumberDataPoint(sample.labels, began_ns, now_ns, float(sample.value)) for sample in of_interest]
        is_sum = family.type == "counter"
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True) if is_sum else Gauge(points)
    return OtlpMetric(name=family.name, description=family.documentation, unit=family.unit, data=data)


def _histograms(family: Metric, began_ns: int, now_ns: int) -> Iterable[Any]:
    """Yield a point for each set of labels. Prometheus's buckets hold those below them, and OTLP's do not."""
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    by_labels: defaultdict[_Labels, list[Sample]] = defaultdict(list)
    for sample in family.samples:
        by_labels[tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))].append(sample)
    for labels, samples in by_labels.items():
        buckets = sorted((float(sample.labels["le"]), int(sample.value)) for sample in samples if "le" in sample.labels)
        below = [0, *(count for _, count in buckets)]
        unknown: Any = None
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=below[-1],
            sum=sum(sample.value for sample in samples if sample.name.endswith("_sum")),
            bucket_counts=[count - before for before, count in pairwise(below)],
            explicit_bounds=[edge for edge, _ in buckets[:-1]],
            min=unknown,
            max=unknown,
        )
