"""Metrics on their way out: snapshots taken by the drain, sent by the SDK's OTLP exporter from a thread of its own."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace
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
POINTS_MAX = 500  # in a request: of the largest kind they are about 1 MB, and receivers of gRPC take 4


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


def requests(data: MetricsData) -> Iterator[MetricsData]:
    """Split metric data into requests of so many points; in each, an owner stands once, as the encoder wants it."""
    part: dict[int, list[Metric]] = defaultdict(list)
    room = POINTS_MAX
    for number, owner in enumerate(data.resource_metrics):
        for metric in owner.scope_metrics[0].metrics:
            for piece in _pieces(metric):
                if len(piece.data.data_points) > room:
                    yield _request(data, part)
                    part, room = defaultdict(list), POINTS_MAX
                room -= len(piece.data.data_points)
                part[number].append(piece)
    if part:
        yield _request(data, part)


def _request(data: MetricsData, part: dict[int, list[Metric]]) -> MetricsData:
    owners = data.resource_metrics
    return MetricsData(
        [
            ResourceMetrics(owners[number].resource, [ScopeMetrics(SCOPE, metrics, "")], "")
            for number, metrics in part.items()
        ]
    )


def _pieces(metric: Metric) -> Iterator[Metric]:
    points = list(metric.data.data_points)
    for at in range(0, len(points), POINTS_MAX):
        whole: Any = metric.data
        yield replace(metric, data=replace(whole, data_points=points[at : at + POINTS_MAX]))


class Reporter:
    """Exports one report at a time; the drain never waits for it."""

    def __init__(self, exporter: MetricExporter, timeout_ms: float) -> None:
        self._exporter = exporter
        self._timeout_ms = timeout_ms
        self._builder = Builder(exporter._preferred_temporality or {})  # noqa: SLF001 - as the SDK's own readers do
        self._offered: Report | None = None
        self._arrived: Report | None = None
        self._changed = threading.Condition()
        self._busy = self._ending = False
        self.made = self.arrived = self.failed = self.superseded = 0
        self._thread = threading.Thread(target=self._run, name="ringspan-metrics", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether a report would be sent now."""
        return not self._busy and self._offered is None

    def offer(self, report: Report) -> None:
        """Have a report sent as soon as may be; a later one takes the place of one that still waits."""
        with self._changed:
            self.made += 1
            self.superseded += self._offered is not None
            self._offered = report
            self._changed.notify()

    @property
    def arrived_unix_ns(self) -> int:
        """The time of the last report that arrived."""
        return self._arrived.exchanges.unix_ns if self._arrived else 0

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
        """Send a report in as many requests as it takes.

        If some have arrived and others not, it counts as failed, but what it said is not said again: a difference would
        be counted twice.
        """
        taken = 0
        for part in requests(self._builder.data(report, self._arrived)):
            if not self._sent(part):
                self.failed += 1
                break
            taken += 1
        else:
            self.arrived += 1
        if taken:
            self._arrived = report

    def _sent(self, part: MetricsData) -> bool:
        try:
            return self._exporter.export(part, self._timeout_ms) is MetricExportResult.SUCCESS
        except Exception:  # noqa: BLE001 - counted; the exporter's own words are kept off the terminal
            return False


def make_exporter(endpoint: Endpoint, explicit_url: bool) -> MetricExporter:
    """Make the SDK's exporter, which reads the variables itself; raises UsageError if it cannot be made."""
    url = endpoint.url if explicit_url else None
    try:
        return _grpc(endpoint, url) if endpoint.protocol == "grpc" else _http(endpoint, url)
    except Exception as error:
        raise UsageError(f"no OTLP exporter for metrics: {error}") from error


def _grpc(endpoint: Endpoint, url: str | None) -> MetricExporter:
    import grpc  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc  # noqa: PLC0415

    known = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
    return Grpc(endpoint=url, compression=known.get(endpoint.compression, grpc.Compression.NoCompression))


def _http(endpoint: Endpoint, url: str | None) -> MetricExporter:
    import requests as library  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http  # noqa: PLC0415

    session = library.Session()
    session.trust_env = not endpoint.certificate  # REQUESTS_CA_BUNDLE would take the place of the certificate given
    return Http(endpoint=url, session=session)


def is_exponential(exporter: MetricExporter) -> bool:
    """Whether OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION asks for exponential histograms."""
    preferred = exporter._preferred_aggregation or {}  # noqa: SLF001 - as the SDK's own readers do
    return isinstance(preferred.get(Histogram), ExponentialBucketHistogramAggregation)
