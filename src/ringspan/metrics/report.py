"""What one export says, as the SDK's metric data, in requests of so many points."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ringspan import __version__, resource
from ringspan.metrics.points import Points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringspan.metrics.exchanges import Key, Snapshot
    from ringspan.metrics.own import Reading
    from ringspan.model import Identity

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
    """Makes the SDK's metric data of reports, in the temporality that is preferred."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self._temporality = temporality

    def data(self, report: Report, before: Report | None) -> MetricsData:
        """Return a report's data; `before` is the last one that arrived."""
        points = Points(report.exchanges, before.exchanges if before else None, self._temporality)
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
            delta = reading.monotonic and self._temporality is not CUMULATIVE and before is not None
            past = before.sums.get((reading.name, reading.attributes), 0) if before and delta else 0
            start = before.exchanges.unix_ns if before and delta else report.began_unix_ns
            point = NumberDataPoint(dict(reading.attributes), start, now, reading.value - past)
            groups[reading.name, reading.description, reading.unit, reading.monotonic].append(point)
        return [
            Metric(name, description, unit, Sum(points, self._temporality if monotonic else CUMULATIVE, monotonic))
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
