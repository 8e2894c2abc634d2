"""Reports on their way out, one by one, from a thread of its own; the fate of each, and of its points, is counted."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

from ringspan.ledger import ReportCounts
from ringspan.metrics.report import Builder, Report, requests
from ringspan.otlp import attempts
from ringspan.otlp.send import Answer

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData

    from ringspan.otlp.send import Sender

log = logging.getLogger(__name__)


class Reporter:
    """Sends one report at a time; the drain never waits for it."""

    def __init__(self, sender: Sender, temporality: AggregationTemporality, patience_s: float) -> None:
        self._sender = sender
        self._patience_s = patience_s  # for one request, from its first try to its last
        self._builder = Builder(temporality)
        self._offered: Report | None = None
        self._arrived: Report | None = None
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._busy = self._closed = self._said = False
        self._points_left = 0
        self._counts = ReportCounts()
        self._thread = threading.Thread(target=self._run, name="ringspan-metrics", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether a report would be sent now."""
        return not self._busy and self._offered is None

    def offer(self, report: Report) -> None:
        """Have a report sent as soon as may be; a later one takes the place of one that still waits."""
        with self._changed:
            self._counts.made += 1
            self._counts.superseded += self._offered is not None
            self._offered = report
            self._changed.notify()

    @property
    def arrived_unix_ns(self) -> int:
        """The time of the last report that arrived."""
        return self._arrived.exchanges.unix_ns if self._arrived else 0

    def counts(self) -> ReportCounts:
        """Return the fate of all reports so far."""
        with self._changed:
            counts = self._counts
            return replace(
                counts,
                under_way=self._busy + (self._offered is not None),
                points_under_way=self._points_left,
                failed=dict(counts.failed),
                points_failed=dict(counts.points_failed),
            )

    def close(self, deadline_s: float) -> None:
        """Send what is offered for at most deadline_s, then give up; what is left counts as failed."""
        with self._changed:
            self._ending.set()
            self._changed.notify()
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            self._sender.cancel()
        with self._changed:
            self._counts.fail(attempts.LEFT, self._busy + (self._offered is not None))
            self._counts.fail_points(attempts.LEFT, self._points_left)
            self._offered, self._points_left = None, 0
            self._busy, self._closed = False, True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._offered or self._ending.is_set())
                report, self._offered = self._offered, None
                if report is None:
                    return
                self._busy = True
            self._settle(self._export(report))

    def _export(self, report: Report) -> Answer:
        """Send a report in as many requests as it takes; return the last answer, and how much all have rejected.

        If some have arrived and others not, it counts as failed, but what it said is not said again: a difference would
        be counted twice.
        """
        parts = list(requests(self._builder.data(report, self._arrived)))
        with self._changed:
            self._points_left = sum(map(_points, parts))
            self._counts.points += self._points_left
        answer, rejected = Answer(taken=True), 0
        for part in parts:
            answer = self._sent(part)
            if not answer.taken:
                break
            rejected += self._took(_points(part), answer)
            self._arrived = report
        return replace(answer, rejected=rejected)

    def _sent(self, part: MetricsData) -> Answer:
        try:
            body = encode_metrics(part).SerializeToString()
        except Exception:  # noqa: BLE001 - counted; the encoder's own words are kept off the terminal
            return Answer(taken=False, reason="cannot be encoded")
        last = time.monotonic() + self._patience_s
        return attempts.settle(
            lambda: self._sender.send(body, max(0.1, last - time.monotonic())), self._patience_s, self._ending
        )

    def _took(self, points: int, answer: Answer) -> int:
        """Count the points of a request that was taken; return how many of them were rejected."""
        rejected = min(answer.rejected, points)
        with self._changed:
            if not self._closed:
                self._counts.points_acknowledged += points - rejected
                self._counts.fail_points(attempts.REJECTED, rejected)
                self._points_left -= points
        if rejected and not self._said:
            self._said = True
            why = f" ({answer.reason})" if answer.reason else ""
            log.warning(
                "the receiver rejected %d data points%s; the ledger counts them, this is said once", rejected, why
            )
        return rejected

    def _settle(self, answer: Answer) -> None:
        with self._changed:
            if self._closed:
                return
            self._busy = False
            self._counts.arrived += answer.taken and not answer.rejected
            self._counts.in_part += answer.taken and answer.rejected > 0
            if not answer.taken:
                self._counts.fail(answer.reason, 1)
                self._counts.fail_points(answer.reason, self._points_left)
                self._points_left = 0


def _points(part: MetricsData) -> int:
    return sum(
        len(metric.data.data_points) for owner in part.resource_metrics for metric in owner.scope_metrics[0].metrics
    )
