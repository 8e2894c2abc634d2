"""Metrics on their way out: snapshots taken by the drain, sent by the SDK's OTLP exporter from a thread of its own."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ringspan import __version__, resource
from ringspan.errors import UsageError
from ringspan.metrics.points import Points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringspan.metrics.exchanges import Key, Snapshot
    from ringspan.metrics.own import Reading
    from ringspan.model import Identity
    from ringspan.otlp.endpoint import Endpoint

SCOPE = InstrumentationScope("ringspan", __version__)
CUMULATIVE = AggregationTemporality.CUMULATIVE


@dataclass(frozen=True)
class Report:
    """All that one export says."""

    exchanges: Snapshot
    own: list[Reading]
    active: dict[Key, int]
    began_unix_ns: int
    sums: dict[tuple[str, Any], float] = field(default_factory=dict)

    @classmethod
    def of(cls, exchanges: Snapshot, own: list[Reading], active: dict[Key, int], began_unix_ns: int) -> Report:
        """Make a report of a snapshot, readings, and requests in flight."""
        return cls(exchanges, own, active, began_unix_ns, {(r.name, r.attributes): r.value for r in own})


class Builder:
    """Makes the SDK's metric data of reports, in the temporality that the exporter prefers."""

    def __init__(self, temporality: dict[type, AggregationTemporality]) -> None:
        self._histogram = temporality.get(Histogram, CUMULATIVE)
        self._counter = temporality.get(Counter, CUMULATIVE)

    def data(self, report: Report, before: Report | None) -> MetricsData:
        """Return a report's data; `before` is the last one that arrived."""
        points = Points(report.exchanges, before.exchanges if before else None, self._histogram)
        by_owner = points.metrics()
        for identity, metric in self._active(report):
            by_owner[identity].append(metric)
        own = by_owner.pop(None, []) + self._own(report, before)
        owners = [(resource.attributes(identity), metrics) for identity, metrics in by_owner.items() if identity]
        return MetricsData([_of_resource(*owner) for owner in [*owners, (resource.own_attributes(), own)]])

    @staticmethod
    def _active(report: Report) -> Iterator[tuple[Identity, Metric]]:
        groups: dict[tuple[Identity, str], list[NumberDataPoint]] = defaultdict(list)
        times = report.began_unix_ns, report.exchanges.unix_ns
        for key, count in report.active.items():
            groups[key.identity, key.kind].append(NumberDataPoint(dict(key.attributes), *times, count))
        for (identity, kind), points in groups.items():
            name, words = f"http.{kind}.active_requests", f"Number of active HTTP {kind} requests."
            yield identity, Metric(name, words, "{request}", Sum(points, CUMULATIVE, is_monotonic=False))

    def _own(self, report: Report, before: Report | None) -> list[Metric]:
        groups: dict[tuple[str, str, str, bool], list[NumberDataPoint]] = defaultdict(list)
        now = report.exchanges.unix_ns
        for reading in report.own:
            delta = reading.monotonic and self._counter is not CUMULATIVE and before is not None
            past = before.sums.get((reading.name, reading.attributes), 0) if before and delta else 0
            start = before.exchanges.unix_ns if before and delta else report.began_unix_ns
            point = NumberDataPoint(dict(reading.attributes), start, now, reading.value - past)
            groups[reading.name, reading.description, reading.unit, reading.monotonic].append(point)
        return [
            Metric(name, description, unit, Sum(points, self._counter if monotonic else CUMULATIVE, monotonic))
            for (name, description, unit, monotonic), points in groups.items()
        ]


def _of_resource(attributes: dict[str, str], metrics: list[Metric]) -> ResourceMetrics:
    return ResourceMetrics(Resource(dict(attributes)), [ScopeMetrics(SCOPE, metrics, "")], "")


class Reporter:
    """Exports one report at a time; the drain never waits for it."""

    def __init__(self, exporter: MetricExporter) -> None:
        self._exporter = exporter
        self._builder = Builder(exporter._preferred_temporality or {})  # noqa: SLF001 - as the SDK's own readers do
        self._offered: Report | None = None
        self._arrived: Report | None = None
        self._changed = threading.Condition()
        self._busy = self._ending = False
        self.exported = self.failed = 0
        self._thread = threading.Thread(target=self._run, name="ringspan-metrics", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether a report would be sent now."""
        return not self._busy and self._offered is None

    def offer(self, report: Report) -> None:
        """Have a report sent as soon as may be; a later one takes the place of one that still waits."""
        with self._changed:
            self._offered = report
            self._changed.notify()

    def close(self, deadline_s: float) -> None:
        """Send what is offered for at most deadline_s, then give up."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._offered or self._ending)
                report, self._offered = self._offered, None
                if report is None:
                    return
                self._busy = True
            self._export(report)
            self._busy = False

    def _export(self, report: Report) -> None:
        try:
            result = self._exporter.export(self._builder.data(report, self._arrived))
        except Exception:  # noqa: BLE001 - counted; the exporter's own words are kept off the terminal
            result = MetricExportResult.FAILURE
        if result is MetricExportResult.SUCCESS:
            self.exported += 1
            self._arrived = report
        else:
            self.failed += 1


def make_exporter(endpoint: Endpoint, explicit_url: bool) -> MetricExporter:
    """Make the SDK's exporter, which reads the variables itself; raises UsageError if it cannot be made."""
    url = endpoint.url if explicit_url else None
    try:
        if endpoint.protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415
                OTLPMetricExporter as Grpc,
            )

            return Grpc(endpoint=url)
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http  # noqa: PLC0415

        return Http(endpoint=url)
    except Exception as error:
        raise UsageError(f"no OTLP exporter for metrics: {error}") from error


def is_exponential(exporter: MetricExporter) -> bool:
    """Whether OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION asks for exponential histograms."""
    preferred = exporter._preferred_aggregation or {}  # noqa: SLF001 - as the SDK's own readers do
    return isinstance(preferred.get(Histogram), ExponentialBucketHistogramAggregation)
