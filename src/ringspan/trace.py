"""`ringspan trace`: drain, decode, count, show, send, until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ringspan import contract, deliver, ledger
from ringspan.clock import Clock
from ringspan.counts import Counts
from ringspan.identify import Identifier
from ringspan.model import rows
from ringspan.probe.session import Probe
from ringspan.ring import Ring
from ringspan.spans import SpanMaker
from ringspan.sweep import Sweeper
from ringspan.view import json_rows, lines
from ringspan.view.table import Snapshot, TableView

if TYPE_CHECKING:
    from ringspan.config import Settings
    from ringspan.executables import Executables
    from ringspan.probe.start import Start

LOOK_S = 0.025
LAST_PROGRAMS_S = 0.02  # after detaching, a program may still be running on another CPU for so long
CLOSE_S = 1.2
log = logging.getLogger(__name__)


def notify_ready() -> None:
    """Tell systemd that capture has begun (sd_notify); does nothing elsewhere."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"READY=1", address.replace("@", "\0", 1) if address.startswith("@") else address)


class Stop:
    """The first SIGINT or SIGTERM asks for an orderly end, a second one ends at once.

    A plain flag, looked at every LOOK_S: an Event's lock can deadlock with a handler that runs on the same thread.
    """

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: Any) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True


class Tracer:
    """One run: owns the probe, the ring and what comes of the records."""

    def __init__(self, settings: Settings, probe: Probe, executables: Executables | None) -> None:
        self._settings = settings
        self._probe = probe
        self._executables = executables
        self._ring = Ring(probe.maps["records"], settings.ring_bytes)
        self._clock = Clock()
        self._spans = SpanMaker(self._clock, Identifier())
        self._counts = Counts()
        self._sweeper = Sweeper(probe)
        self._filtered = {"exchanges": 0, "connects": 0}
        self._delivery: deliver.Delivery | None = None
        self._table: TableView | None = None
        self._shown = (time.monotonic(), 0)

    def run(self, stop: Stop) -> None:
        """Drain until the duration is over or a signal comes."""
        settings = self._settings
        if deliver.wants_export(settings.otlp):
            self._delivery = deliver.Delivery(deliver.make_exporter(settings.otlp, settings.protocol))
        if settings.show == "table":
            self._table = TableView()
        now = time.monotonic()
        end = now + settings.duration if settings.duration else float("inf")
        next_show, next_sweep = now + settings.interval, now + 1
        try:
            while not stop.asked and now < end:
                time.sleep(min(LOOK_S, max(0.0, end - now)))
                now = time.monotonic()
                self._take(self._ring.drain(), now)
                if now >= next_sweep:
                    self._clock.refresh()
                    self._take(self._sweeper.sweep(), now)
                    next_sweep = now + 1
                if now >= next_show:
                    self._show(now)
                    next_show = now + settings.interval
        finally:
            self._finish()

    def _finish(self) -> None:
        self._probe.detach()
        time.sleep(LAST_PROGRAMS_S)
        now = time.monotonic()
        try:
            self._take(self._ring.drain(), now)
            self._take(self._sweeper.sweep(), now)
            self._show(now)
        finally:
            if self._table:
                self._table.close()
            if self._delivery:
                self._delivery.close(CLOSE_S)
            for line in self._ledger().lines():
                print(line, file=sys.stderr)

    def _take(self, batch: np.ndarray[Any, np.dtype[Any]], now: float) -> None:
        if not len(batch):
            return
        if self._executables:
            batch = self._judged(batch)
        self._counts.add(batch, now)
        if self._settings.show != "json" and not self._delivery:
            return
        spans = [self._spans.span(row) for row in rows(batch)]
        if self._settings.show == "json":
            json_rows.write(spans, sys.stdout)
        if self._delivery:
            self._delivery.put(spans)

    def _judged(self, batch: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
        """Take out records of executables that the kernel had not been told about when they passed."""
        judge, fd = self._executables, self._probe.maps["judged_executables"]
        kept = batch["judged"] != 0
        if judge:
            kept |= [bool(ok) or judge.judge_process(int(t), fd) for ok, t in zip(kept, batch["tgid"], strict=True)]
        connects = batch["kind"] == contract.number("RECORD_CONNECT_FAILURE")
        self._filtered["connects"] += int((~kept & connects).sum())
        self._filtered["exchanges"] += int((~kept & ~connects).sum())
        chosen: np.ndarray[Any, np.dtype[Any]] = batch[kept]
        return chosen

    def _show(self, now: float) -> None:
        if self._settings.show == "lines":
            lines.write(self._counts, sys.stdout)
        elif self._table:
            before, count = self._shown
            self._shown = now, self._counts.records
            rate = (self._counts.records - count) / max(now - before, 1e-3)
            self._table.show(Snapshot(self._counts, self._ledger(), rate))

    def _ledger(self) -> ledger.Ledger:
        kernel = self._probe.counters()
        in_flight = self._probe.in_flight()
        exchanges = ledger.exchange_account(kernel, in_flight, self._filtered["exchanges"], self._sweeper.swept)
        connects = ledger.connect_account(kernel, self._filtered["connects"])
        recorded = exchanges.parts["recorded"] + connects.parts["recorded"]
        accounts = [exchanges, connects, ledger.metric_account(recorded, self._counts.records)]
        if self._delivery:
            accounts.append(ledger.span_account(recorded, self._delivery.counts()))
        return ledger.Ledger(accounts, kernel | {"missed_runs": self._probe.missed_runs()})


def run(settings: Settings, start: Start, executables: Executables | None) -> int:
    """Trace as asked, with a probe that is being compiled; returns the exit status; raises CannotTrace, UsageError."""
    stop = Stop()
    deliver.silence_sdk()
    if not deliver.wants_export(settings.otlp):
        print("nothing is exported: give --otlp URL or set OTEL_EXPORTER_OTLP_ENDPOINT", file=sys.stderr)
    probe = start.finish()
    tracer = Tracer(settings, probe, executables)
    print("ready: capture syscall (raw tracepoints)", file=sys.stderr, flush=True)
    notify_ready()
    tracer.run(stop)
    return 0
