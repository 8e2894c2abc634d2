"""`ringspan trace`: drain, decode, count, show, send, until told to stop."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ringspan import (
    contract,
    directory,
    ledger,
    notify,
    pid_namespace,
    privileges,
    redact,
    reload,
    rules,
    sandbox,
    telemetry,
)
from ringspan.clock import Clock
from ringspan.counts import Counts
from ringspan.errors import CannotTrace, UsageError
from ringspan.evict import Evictor
from ringspan.identify import Identifier
from ringspan.metrics.own import Cost
from ringspan.otlp.endpoint import names_unix_socket
from ringspan.probe.session import Probe
from ringspan.probe.settings import BIRTH_RING_BYTES
from ringspan.probe.switches import Watch
from ringspan.proxies import Proxies
from ringspan.ring import MOST, Ring
from ringspan.router import Router
from ringspan.routes import Routing
from ringspan.spans import SpanMaker
from ringspan.sweep import Sweeper
from ringspan.telemetry import State, Taken
from ringspan.verdicts import Verdicts
from ringspan.view import json_rows, lines
from ringspan.view.output import Output
from ringspan.view.rates import Rates
from ringspan.view.table import Snapshot, TableView

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringspan.config import Settings
    from ringspan.directory.keep import Directories
    from ringspan.executables import Executables
    from ringspan.launch import Starts
    from ringspan.stop import Stop
    from ringspan.telemetry import Way

LOOK_S = 0.025
DRAIN_S = 0.25  # for as long other things wait while records do
REST_S = 3.0  # at the end: what is in the ring then is counted as lost
LAST_PROGRAMS_S = 0.02  # after detaching, a program may still be running on another CPU for so long
CLOSE_S, OUTPUT_S = 1.0, 0.4
CONNECT_FAILURE = contract.number("RECORD_CONNECT_FAILURE")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What is asked of a run, and by whom it may be asked for more."""

    settings: Settings
    executables: Executables | None
    stop: Stop
    starts: Starts
    read_again: Callable[[], Settings] | None = None


class Tracer:
    """One run: owns the probe, the ring and what comes of the records."""

    def __init__(self, run: Run, probe: Probe, way: Way | None, names: Directories) -> None:
        settings, executables = run.settings, run.executables
        self._stop, self._read_again = run.stop, run.read_again
        self._settings = settings
        self._probe = probe
        self._executables = executables
        self._output = Output(sys.stdout)
        self._ring = Ring(probe.maps["records"], settings.ring_bytes, contract.RECORD)
        self._births = Ring(probe.maps["births"], BIRTH_RING_BYTES, contract.BIRTH)
        self._clock = Clock()
        self._identify = Identifier(directories=names)
        self._verdicts = Verdicts((), lambda row: self._identify.who(row).deciding)
        self._router = Router(Routing(), self._identify)
        proxies = Proxies(settings.trusted_proxies, settings.client_from) if settings.trusted_proxies else None
        self._spans = SpanMaker(self._clock, self._identify, settings.opt_in, proxies)
        self._counts = Counts()
        self._taken = 0
        self._sweeper = Sweeper(probe)
        self._evictor = Evictor(probe, settings.connections, settings.exchanges)
        self._filtered, self._unknown, self._left = (dict.fromkeys(("exchanges", "connects"), 0) for _ in range(3))
        self._telemetry = telemetry.Telemetry(way, self._clock, self._identify, self._spans) if way else None
        self._table: TableView | None = None
        self._tls = run.starts.tls
        self._rates = Rates(time.monotonic())
        self._switches = Watch(probe.chosen.how, time.monotonic())
        self._reading: reload.Reading | None = None
        self._set(reload.prepare(settings))

    def run(self) -> None:
        """Drain until the duration is over or a signal comes."""
        settings, stop = self._settings, self._stop
        if settings.show == "table":
            self._table = TableView()
        now = time.monotonic()
        end = now + settings.duration if settings.duration else float("inf")
        next_show, next_sweep = now + settings.interval, now + 1
        try:
            while not stop.asked and now < end:
                time.sleep(min(LOOK_S, max(0.0, end - now)))
                now = time.monotonic()
                self._drain(now)
                self._output.check()
                if now >= next_sweep:
                    self._clock.refresh()
                    self._take(self._sweeper.sweep(), now)
                    self._evictor.evict()
                    self._verdicts.forget()
                    self._switches.look(now)
                    if self._tls:
                        self._tls.check()
                    next_sweep = now + 1
                if self._telemetry:
                    self._telemetry.tick(now, self._state)
                if now >= next_show or (self._table and self._table.poll()):
                    self._show(now)
                    next_show = now + self._settings.interval
                self._reload()
        finally:
            self._finish()

    def _reload(self) -> None:
        """Have settings read again if that is asked for; take those that have been read meanwhile."""
        if self._reading and not self._reading.is_alive():
            if prepared := reload.taken(self._settings, self._reading):
                self._set(prepared)
            self._reading = None
        if self._stop.reload and not self._reading:
            self._stop.reload = False
            self._reading = reload.begin(self._read_again)

    def _set(self, prepared: reload.Prepared) -> None:
        """Have other settings from now on, of those that can change."""
        settings, found, routing, policy = prepared
        self._settings = settings
        redact.configure(policy)
        self._spans.forget()
        self._counts.forget()
        self._identify.set_rules(found)
        self._verdicts.set_rules(found)
        self._router.set_routing(routing)
        if self._telemetry:
            self._telemetry.set(settings.spans_per_second, by_port=rules.name_by_port(found))

    def _finish(self) -> None:
        if self._tls:
            self._tls.detach()
        self._switches.look(time.monotonic())
        self._probe.detach()
        time.sleep(LAST_PROGRAMS_S)
        now = time.monotonic()
        try:
            self._drain(now, REST_S)
            self._leave()
            self._take(self._sweeper.sweep(), now)
            self._show(now)
        finally:
            if self._table:
                self._table.close()
            self._output.close(OUTPUT_S)
            if self._telemetry:
                self._telemetry.close(CLOSE_S, self._state)
            for line in self._ledger().lines():
                print(line, file=sys.stderr)

    def _drain(self, now: float, longest_s: float = DRAIN_S) -> None:
        """Take what is there; no more after so long, so that other things are seen to, and an end comes."""
        while time.monotonic() < now + longest_s:
            batch = self._ring.drain()
            births = self._births.drain()  # after the records, so that each one's process is among them or before
            if len(births):
                self._identify.born(births)
            self._take(batch, now)
            if len(batch) < MOST:
                break

    def _leave(self) -> None:
        """Count what is left in the ring at the end."""
        while len(batch := self._ring.drain()):
            connects = int(np.count_nonzero(batch["kind"] == CONNECT_FAILURE))
            self._left["connects"] += connects
            self._left["exchanges"] += len(batch) - connects

    def _take(self, batch: np.ndarray[Any, np.dtype[Any]], now: float) -> None:
        if self._executables and len(batch):
            batch = self._judged(batch)
        batch, shares = self._verdicts.keep(batch)
        if not len(batch):
            return
        self._taken += len(batch)
        if self._settings.show in ("table", "lines"):
            self._counts.add(batch)
        taken = Taken(batch, shares, self._router.of(batch))
        spans = None
        if self._settings.show == "json":
            spans = taken.spans(self._spans)
            self._output.put(json_rows.text(spans), len(spans))
        if self._telemetry:
            self._telemetry.take(taken, spans, now)

    def _judged(self, batch: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
        """Take out records of executables that the kernel had not been told about when they passed."""
        judge, fd = self._executables, self._probe.maps["judged_executables"]
        kept = batch["judged"] != 0
        connects = batch["kind"] == CONNECT_FAILURE
        for i in np.flatnonzero(~kept):
            comm = batch["comm"][i].decode(errors="backslashreplace")
            began = int(batch["process_start_ns"][i])
            verdict = judge.judge_process(int(batch["tgid"][i]), began, comm, fd) if judge else True
            kept[i] = bool(verdict)
            if not verdict:
                fate = self._unknown if verdict is None else self._filtered
                fate["connects" if connects[i] else "exchanges"] += 1
        chosen: np.ndarray[Any, np.dtype[Any]] = batch[kept]
        return chosen

    def _show(self, now: float) -> None:
        if self._settings.show == "lines":
            self._output.put(lines.text(self._counts), 0)
        elif self._table:
            self._rates.read(now, self._counts.counted)
            self._table.show(self._snapshot)

    def _snapshot(self, room: int, order: str) -> Snapshot:
        whole = self._ledger()
        return Snapshot(
            lines=self._counts.top(room, order),
            total=len(self._counts),
            order=order,
            per_second=self._rates.per_second,
            failed_connects=dict(self._counts.failed_connects),
            lost=whole.lost,
            ledger=whole.lines(),
            cpu=self._rates.cpu,
            resident_bytes=Cost.now(0).resident_bytes,
        )

    def _ledger(self) -> ledger.Ledger:
        kernel = self._probe.counters()
        in_flight = self._probe.count_in_flight()
        exchanges = ledger.exchange_account(kernel, in_flight, self._sweeper.swept, self._here("exchanges"))
        connects = ledger.connect_account(kernel, self._here("connects"))
        recorded = exchanges.parts["recorded"] + connects.parts["recorded"]
        accounts = [exchanges, connects]
        if self._settings.tls == "auto":
            accounts.append(ledger.tls_account(kernel))
        if self._settings.show == "json":
            accounts.append(ledger.row_account(recorded, self._output.written, self._output.dropped))
        if self._telemetry:
            accounts += self._telemetry.accounts(recorded)
        else:
            accounts.append(ledger.metric_account(recorded, self._taken))
        return ledger.Ledger(accounts, kernel | self._unseen(), self._let_go())

    def _unseen(self) -> dict[str, int]:
        files = self._tls.counts if self._tls else {}
        return {
            "missed_runs": self._probe.missed_runs(),
            "processes_unplaced": self._identify.unplaced,
            "seconds_off": self._switches.seconds,
            **{f"tls_files_{name}": files.get(name, 0) for name in ("refused", "changed")},
        }

    def _here(self, what: str) -> ledger.Here:
        dropped = dict(self._verdicts.dropped[what])
        return ledger.Here(self._filtered[what], self._unknown[what], self._left[what], dropped)

    def _let_go(self) -> dict[str, int]:
        return {
            "descriptions": self._spans.forgotten,
            "first_ends": self._counts.forgotten,
            "routes": self._router.overflowed,
            "learners": self._router.forgotten,
            "verdicts": self._executables.emptied if self._executables else 0,
            **self._identify.let_go,
            **(self._telemetry.let_go if self._telemetry else {}),
        }

    def _state(self) -> State:
        in_flight = self._verdicts.undropped(self._probe.in_flight())
        routes = len(self._router), self._router.overflowed
        return State(self._ledger(), Cost.now(self._probe.run_time()[0]), in_flight, routes)


def _finish(starts: Starts, stop: Stop) -> Probe | None:
    """Wait until all is attached; None if told to stop before; raises CannotTrace."""
    probe = None
    try:
        probe = starts.probe.finish(lambda: stop.asked)
    finally:
        if starts.tls and not probe:
            starts.tls.cancel()
    if probe and starts.tls:
        starts.tls.finish(probe.functions, lambda: stop.asked)
    return probe


def confine(settings: Settings) -> None:
    """Give up, once attached, what only starting took; raises CannotTrace."""
    if settings.user:
        try:
            privileges.become(settings.user)
        except OSError as error:
            raise CannotTrace(f"cannot become {settings.user}: {error.strerror}", "see ringspan doctor") from error
    if settings.sandbox:
        by_unix = settings.container_runtime is not None or names_unix_socket(settings.otlp, os.environ)
        sandbox.enter(unix_sockets=by_unix)


def run(asked: Run) -> int:
    """Trace as asked, with a probe that is being compiled; returns the exit status; raises CannotTrace, UsageError."""
    settings = asked.settings
    telemetry.silence_sdk()
    try:
        way, names = telemetry.prepare(settings), directory.chosen(settings)
    except UsageError:
        asked.starts.cancel()
        raise
    if not way:
        print("nothing is exported: give --otlp URL or set OTEL_EXPORTER_OTLP_ENDPOINT", file=sys.stderr)
    if pid_namespace.hidden_from():
        log.warning("%s; %s", pid_namespace.COSTS, pid_namespace.REMEDY)
    probe = _finish(asked.starts, asked.stop)
    if not probe:
        return 0
    notification = notify.open_channel()
    confine(settings)
    names.start()
    tracer = Tracer(asked, probe, way, names)
    print(f"ready: {probe.chosen}", file=sys.stderr, flush=True)
    notify.ready(notification)
    tracer.run()
    return 0
