"""Plays a table of cases, all of them at first, so that the tracer is waited for once and not once per case."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pytest

from .expected import Exchange, Seen, assert_seen, at
from .raw import play
from .tracer import SETTLE_SECONDS, SLOWNESS, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .peer import Place, Talk
    from .stage import Stage

LATE_SECONDS = 3.0 * SLOWNESS


class Playable(Protocol):
    """What a table holds."""

    name: str
    family: str
    slow: bool

    def play(self, place: Place) -> None: ...

    def wanted(self) -> list[Seen]: ...


@dataclass(frozen=True)
class Case:
    """Connections to one server, and the exchanges that they hold."""

    name: str
    talks: tuple[Talk, ...]
    rows: tuple[Exchange, ...] = (Exchange(got=5),)
    family: str = "v4"
    slow: bool = False

    def play(self, place: Place) -> None:
        play(place, self.talks)

    def wanted(self) -> list[Seen]:
        return [row for exchange in self.rows for row in exchange.seen()]


def case(name: str, talk: Talk, *rows: Exchange, family: str = "v4") -> Case:
    """One connection; without rows, one GET that is answered by five bytes."""
    return Case(name, (talk,), rows or (Exchange(got=5),), family)


@dataclass
class Outcome:
    """Where a case was played, and what went wrong with the playing itself."""

    case: Playable
    place: Place
    errors: list[BaseException] = field(default_factory=list)

    def play(self) -> None:
        try:
            self.case.play(self.place)
        except BaseException as error:
            self.errors.append(error)

    def rows(self, stage: Stage) -> list[Row]:
        return [row for row in stage.tracer_of(self.place).all_rows() if at(self.place)(row)]

    def check(self, stage: Stage) -> None:
        if self.errors:
            raise self.errors[0]
        assert_seen(self.rows(stage), self.case.wanted())


def selected(request: pytest.FixtureRequest) -> list[Playable]:
    """The cases of this module that this run is to test."""
    items = [
        item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module
    ]
    return [
        item.callspec.params["case"]
        for item in items
        if "case" in getattr(item, "callspec", item).__dict__.get("params", {})
    ]


def play_all(cases: Sequence[Playable], stage: Stage) -> dict[str, Outcome]:
    """Plays the slow ones beside the others; then waits until the rows are there."""
    outcomes = {case.name: Outcome(case, stage.place(case.family)) for case in cases}
    threads = [threading.Thread(target=one.play, daemon=True) for one in outcomes.values() if one.case.slow]
    for thread in threads:
        thread.start()
    for one in outcomes.values():
        if not one.case.slow:
            one.play()
    for thread in threads:
        thread.join()
    await_rows(list(outcomes.values()), stage)
    return outcomes


def await_rows(outcomes: Sequence[Outcome], stage: Stage) -> None:
    end = time.monotonic() + LATE_SECONDS
    while time.monotonic() < end:
        if all(len(one.rows(stage)) >= len(one.case.wanted()) for one in outcomes):
            break
        time.sleep(0.1)
    time.sleep(SETTLE_SECONDS)
