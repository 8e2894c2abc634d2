"""Snapshots to the SDK's metric data, cumulative or as the difference to the last one that arrived."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from ringspan.metrics import exchanges
from ringspan.metrics.buckets import Exponential

if TYPE_CHECKING:
    from ringspan.metrics.exchanges import Snapshot
    from ringspan.metrics.series import Histograms
    from ringspan.model import Identity

OVERFLOW = {"otel.metric.overflow": True}


class Instrument(NamedTuple):
    """A metric's name, unit and description."""

    name: str
    unit: str
    description: str


SIDES = (exchanges.SERVER, exchanges.CLIENT)
HISTOGRAMS = {
    (side, exchanges.DURATION): Instrument(f"http.{side}.request.duration", "s", f"Duration of HTTP {side} requests.")
    for side in SIDES
} | {
    (side, measure): Instrument(f"http.{side}.{what}.body.size", "By", f"Size of HTTP {side} {what} bodies.")
    for side in SIDES
    for measure, what in ((exchanges.REQUEST_BYTES, "request"), (exchanges.RESPONSE_BYTES, "response"))
}
FAILURES = Instrument("ringspan.connect.failures", "{connect}", "Connects that failed, by reason.")


class Points:
    """Makes data points of one snapshot; `before` is the snapshot they are to be the difference to, if any."""

    def __init__(self, snapshot: Snapshot, before: Snapshot | None, temporality: AggregationTemporality) -> None:
        self._snapshot = snapshot
        self._before = before if temporality is AggregationTemporality.DELTA else None
        self._temporality = temporality

    def metrics(self) -> dict[Identity | None, list[Metric]]:
        """Return the metrics of each service; those of no service (None) are the overflow's."""
        groups: dict[tuple[Identity | None, Instrument, str], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for identity, kind, attributes, slot in self._series():
            for measure in self._snapshot.histograms if kind != exchanges.CONNECT else (exchanges.DURATION,):
                groups[identity, HISTOGRAMS.get((kind, measure), FAILURES), measure].append((slot, attributes))
        out: dict[Identity | None, list[Metric]] = defaultdict(list)
        for (identity, instrument, measure), series in groups.items():
            points = [
                point for slot, attributes in series for point in self._point(instrument, measure, slot, attributes)
            ]
            if points:
                out[identity].append(Metric(*_named(instrument), data=self._data(instrument, points)))
        return out

    def _series(self) -> Iterator[tuple[Identity | None, str, dict[str, Any], int]]:
        for key, slot in self._snapshot.keys.items():
            yield key.identity, key.kind, dict(key.attributes), slot
        for kind, slot in exchanges.OVERFLOW_SLOTS.items():
            yield None, kind, OVERFLOW, slot

    def _data(self, instrument: Instrument, points: list[Any]) -> Any:
        if instrument is FAILURES:
            return Sum(points, self._temporality, is_monotonic=True)
        if isinstance(points[0], ExponentialHistogramDataPoint):
            return ExponentialHistogram(points, self._temporality)
        return Histogram(points, self._temporality)

    def _point(self, instrument: Instrument, measure: str, slot: int, attributes: dict[str, Any]) -> Iterator[Any]:
        """One series' point; none if nothing has happened since the snapshot before."""
        now, row = self._snapshot.histograms[measure], self._snapshot.rows[slot]
        before = self._held_before(slot)
        counts, total, total_sum = now.counts[row], int(now.totals[row]), float(now.sums[row])
        start = int(self._snapshot.since_unix_ns[row])
        if before:
            old, old_row = before.histograms[measure], before.rows[slot]
            counts, total = counts - old.counts[old_row], total - int(old.totals[old_row])
            total_sum -= float(old.sums[old_row])
            start = before.unix_ns
        if not total:
            return
        if instrument is FAILURES:
            yield NumberDataPoint(attributes, start, self._snapshot.unix_ns, total)
            return
        common = self._extremes(now, row) | {"count": total, "sum": total_sum}
        common |= {"attributes": attributes, "start_time_unix_nano": start, "time_unix_nano": self._snapshot.unix_ns}
        exemplars = self._exemplars(slot) if measure == exchanges.DURATION else []
        yield _histogram_point(now, counts, common, exemplars)

    def _held_before(self, slot: int) -> Snapshot | None:
        """The snapshot before, if the slot was this series' then."""
        before = self._before
        if before is None or slot not in before.rows:
            return None
        same = before.generations[before.rows[slot]] == self._snapshot.generations[self._snapshot.rows[slot]]
        return before if same else None

    def _extremes(self, now: Histograms, row: int) -> dict[str, Any]:
        """Least and greatest value since the series began; of a difference they are not known."""
        if self._temporality is AggregationTemporality.DELTA:
            return {"min": None, "max": None}
        return {"min": float(now.minima[row]), "max": float(now.maxima[row])}

    def _exemplars(self, slot: int) -> list[Exemplar]:
        return [
            Exemplar({}, one.value, one.unix_ns, one.span_id, one.trace_id)
            for one in self._snapshot.exemplars.get(slot, {}).values()
        ]


def _named(instrument: Instrument) -> tuple[str, str, str]:
    return instrument.name, instrument.description, instrument.unit


def _histogram_point(now: Histograms, counts: Any, common: dict[str, Any], exemplars: list[Exemplar]) -> Any:
    kind = now.buckets
    if isinstance(kind, Exponential):
        populated = kind.populated(counts)
        return ExponentialHistogramDataPoint(
            scale=kind.scale,
            zero_count=populated.zero_count,
            positive=Buckets(populated.offset, populated.counts),
            negative=Buckets(0, []),
            flags=0,
            exemplars=exemplars,
            **common,
        )
    return HistogramDataPoint(bucket_counts=counts.tolist(), explicit_bounds=kind.bounds, exemplars=exemplars, **common)
