"""Plays a table of cases, all of them at first, so that the tracer is waited for once and not once per case."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from .conftest import Ports
from .expected import Seen, assert_seen, at
from .raw import Place
from .tracer import SETTLE_SECONDS, Row, Tracer

LATE_SECONDS = 3.0


class Case(Protocol):
    """What a table holds."""

    name: str
    family: str
    slow: bool

    def play(self, place: Place) -> None: ...

    def wanted(self) -> list[Seen]: ...


@dataclass
class Outcome:
    """Where a case was played, and what went wrong with the playing itself."""

    case: Case
    place: Place
    errors: list[BaseException] = field(default_factory=list)

    def play(self) -> None:
        try:
            self.case.play(self.place)
        except BaseException as error:
            self.errors.append(error)

    def rows(self, tracer: Tracer) -> list[Row]:
        return [row for row in tracer.all_rows() if at(self.place)(row)]

    def check(self, tracer: Tracer) -> None:
        if self.errors:
            raise self.errors[0]
        assert_seen(self.rows(tracer), self.case.wanted())


def selected(request: pytest.FixtureRequest) -> list[Case]:
    """The cases of this module that this run is to test."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module]
    return [item.callspec.params["case"] for item in items if "case" in getattr(item, "callspec", item).__dict__.get("params", {})]


def place_for(case: Case, ports: Ports, folder: Path) -> Place:
    if case.family == "unix":
        return Place("unix", 10000, str(folder / f"{abs(hash(case.name)) % 10**8}.sock"))
    return Place(case.family, ports.take())


def play_all(cases: Sequence[Case], tracers: dict[str, Tracer], ports: Ports, folder: Path) -> dict[str, Outcome]:
    """Plays the slow ones beside the others; then waits until the rows are there."""
    outcomes = {case.name: Outcome(case, place_for(case, ports, folder)) for case in cases}
    threads = [threading.Thread(target=one.play, daemon=True) for one in outcomes.values() if one.case.slow]
    for thread in threads:
        thread.start()
    for one in outcomes.values():
        if not one.case.slow:
            one.play()
    for thread in threads:
        thread.join()
    await_rows(list(outcomes.values()), tracers)
    return outcomes


def await_rows(outcomes: Sequence[Outcome], tracers: dict[str, Tracer]) -> None:
    end = time.monotonic() + LATE_SECONDS
    while time.monotonic() < end:
        if all(len(one.rows(tracers[one.case.family])) >= len(one.case.wanted()) for one in outcomes):
            break
        time.sleep(0.1)
    time.sleep(SETTLE_SECONDS)
