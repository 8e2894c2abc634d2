"""What leaves as OTLP: metrics of every record, spans of those that the sampler keeps."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ringspan import ledger
from ringspan.deliver import Delivery
from ringspan.deliver import Limits as QueueLimits
from ringspan.errors import UsageError
from ringspan.metrics import own, preferences, report, reporter
from ringspan.metrics.active import ActiveRequests
from ringspan.metrics.exchanges import ExchangeMetrics
from ringspan.metrics.exchanges import Limits as SeriesLimits
from ringspan.model import rows
from ringspan.otlp import endpoint, send
from ringspan.sampling import Sampler, rule_from_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import AggregationTemporality

    from ringspan.clock import Clock
    from ringspan.config import Settings
    from ringspan.ledger import Account, Ledger
    from ringspan.metrics.own import Cost
    from ringspan.model import Identity, Routes, Span
    from ringspan.spans import SpanMaker

Array = np.ndarray[Any, np.dtype[Any]]
TIDY_S = 1.0
INTERVAL_MS = 60_000  # OTEL_METRIC_EXPORT_INTERVAL's default


def _number(name: str, default: float, least: float = 1) -> float:
    """Read a variable that is a number, no less than `least`; raises UsageError."""
    value = os.environ.get(name, "").strip()
    try:
        number = float(value) if value else default
    except ValueError:
        number = -1.0
    if not least <= number < float("inf"):
        raise UsageError(f"{name}: {value!r} is not a number from {least:g} on")
    return number


@dataclass(frozen=True)
class State:
    """What a report says beside the exchanges."""

    ledger: Ledger
    cost: Cost
    in_flight: Array
    routes: tuple[int, int] = (0, 0)  # how many, and how many records found no room for theirs


class Taken(NamedTuple):
    """A batch of records, and what is known of each by column."""

    batch: Array
    shares: Array | None = None  # of its traces that rules leave
    routes: Routes | None = None

    def spans(self, maker: SpanMaker, kept: Array | slice = slice(None)) -> list[Span]:
        """Make spans of those that are kept."""
        some = rows(self.batch[kept])
        if not self.routes:
            return [maker.span(row) for row in some]
        numbers = self.routes.numbers[kept].tolist()
        return [maker.span(row, self.routes.of(number)) for row, number in zip(some, numbers, strict=True)]


@dataclass(frozen=True)
class Way:
    """How telemetry gets out, settled before anything is traced."""

    sender: send.Sender | None
    queue: QueueLimits
    sampler: Sampler
    reports: send.Sender | None
    report_s: float  # for one request of a report, from its first try to its last
    temporality: AggregationTemporality
    interval_s: float
    series: SeriesLimits
    active_requests: bool
    exemplars: bool = True


def prepare(settings: Settings) -> Way | None:
    """Read flags, settings and variables; None if nothing is to be exported; raises UsageError."""
    wants = {signal: endpoint.wanted(signal, settings.otlp) for signal in ("traces", "metrics")}  # type: ignore[arg-type]
    if not any(wants.values()):
        return None
    rule = rule_from_environment()
    traces = endpoint.resolve("traces", settings.otlp, settings.protocol) if wants["traces"] else None
    metrics = endpoint.resolve("metrics", settings.otlp, settings.protocol) if wants["metrics"] else None
    return Way(
        sender=send.sender(traces) if traces else None,
        queue=QueueLimits(
            queue_spans=int(_number("OTEL_BSP_MAX_QUEUE_SIZE", settings.queue_spans)),
            queue_bytes=settings.queue_bytes,
            batch_spans=int(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
            linger_s=max(0.01, _number("OTEL_BSP_SCHEDULE_DELAY", 200, 0) / 1000),
            timeout_s=min(traces.timeout_s if traces else 10.0, _number("OTEL_BSP_EXPORT_TIMEOUT", 30_000) / 1000),
            retry_s=settings.retry_s,
        ),
        sampler=Sampler(rule, settings.spans_per_second),
        reports=send.sender(metrics) if metrics else None,
        report_s=min(metrics.timeout_s if metrics else 10.0, _number("OTEL_METRIC_EXPORT_TIMEOUT", 30_000) / 1000),
        temporality=preferences.temporality(),
        interval_s=_number("OTEL_METRIC_EXPORT_INTERVAL", INTERVAL_MS) / 1000,
        series=SeriesLimits(
            settings.series,
            settings.series_idle_s,
            metrics is not None and preferences.exponential(),
            settings.body_sizes,
        ),
        active_requests=settings.active_requests,
        exemplars=os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER", "").strip().lower() != "always_off",
    )


class Telemetry:
    """Takes batches of records; owns the metrics, the sampler and both ways out."""

    def __init__(self, way: Way, clock: Clock, identify: Callable[[Any], Identity], spans: SpanMaker) -> None:
        now = time.monotonic()
        self._way = way
        self._clock = clock
        self._spans = spans
        self._began_unix_ns = time.time_ns()
        self._metrics = ExchangeMetrics(way.series, identify, now, self._began_unix_ns)
        self._active = ActiveRequests(identify) if way.active_requests else None
        self._delivery = Delivery(way.sender, way.queue) if way.sender else None
        self._reporter = reporter.Reporter(way.reports, way.temporality, way.report_s) if way.reports else None
        self._next_report, self._next_tidy = now + way.interval_s, now + TIDY_S

    @property
    def counted(self) -> int:
        """How many records the metrics have counted."""
        return self._metrics.counted

    def set(self, spans_per_second: float, *, by_port: bool) -> None:
        """Have another budget of spans from now on, and services named by other rules."""
        self._way.sampler.set_rate(spans_per_second)
        self._metrics.regroup(by_port=by_port)

    @property
    def let_go(self) -> dict[str, int]:
        """How much was dropped for want of room."""
        resources = self._delivery.forgotten if self._delivery else 0
        return {"resources": resources, "series": self._metrics.overflowed}

    def take(self, taken: Taken, made: list[Span] | None, now: float) -> None:
        """Count a batch, and queue the spans that the sampler keeps; `made` are all its spans, if they exist."""
        batch = taken.batch
        slots = self._metrics.add(batch, now, time.time_ns(), taken.routes)
        if not self._delivery:
            return
        kept = self._way.sampler.keep(batch, self._metrics.slowness(batch, slots), now, taken.shares)
        if made is None:
            chosen = taken.spans(self._spans, kept)
        else:
            chosen = [span for span, keep in zip(made, kept.tolist(), strict=True) if keep]
        if chosen:
            if self._way.exemplars:
                self._metrics.exemplify(chosen, slots[kept])
            self._delivery.put(chosen)

    def accounts(self, recorded: int) -> list[Account]:
        """Return the accounts of metrics and spans."""
        out = [ledger.metric_account(recorded, self._metrics.counted)]
        if self._reporter:
            reports = self._reporter.counts()
            points = ledger.point_account(reports)
            out += [ledger.report_account(reports), *([points] if points.gap or reports.points_failed else [])]
        if self._delivery:
            counts = self._delivery.counts()
            counts.unsampled = dict(self._way.sampler.unsampled)
            out.append(ledger.span_account(recorded, counts))
        return out

    def tick(self, now: float, state: Callable[[], State]) -> None:
        """Do what is due: tidy up, export metrics."""
        if now >= self._next_tidy:
            self._metrics.tidy(now, self._unreported_s(now))
            self._next_tidy = now + TIDY_S
        if self._reporter and now >= self._next_report and self._reporter.idle:
            self._reporter.offer(self._report(state()))
            self._next_report = now + self._way.interval_s

    def _unreported_s(self, now: float) -> float:
        """The (monotonic) time from which on nothing has been reported: series used since must be kept."""
        if not self._reporter:
            return now
        return now - (time.time_ns() - self._reporter.arrived_unix_ns) / 1e9

    def close(self, deadline_s: float, state: Callable[[], State]) -> None:
        """Send what there is for at most deadline_s."""
        end = time.monotonic() + deadline_s
        if self._delivery:
            self._delivery.close(deadline_s)
        if self._reporter:
            self._reporter.offer(self._report(state()))
            self._reporter.close(max(0.1, end - time.monotonic()))

    def _report(self, state: State) -> report.Report:
        snapshot = self._metrics.snapshot(time.time_ns())
        readings = [
            *own.ledger_readings(state.ledger),
            *own.cost_readings(state.cost),
            *own.series_readings(len(snapshot.keys), snapshot.overflowed),
            *own.route_readings(*state.routes),
        ]
        active = self._active.count(state.in_flight) if self._active else {}
        return report.Report.of(snapshot, readings, active, self._began_unix_ns)


def silence_sdk() -> None:
    """Keep the SDK's own log lines back: the ledger says it once, and what a peer sent must not reach a terminal."""
    for name in ("opentelemetry", "grpc", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
