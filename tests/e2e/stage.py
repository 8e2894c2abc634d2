"""Where cases are played: ports that are handed out once, and the tracers that look at them."""

from __future__ import annotations

import itertools
import random
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .expected import at
from .peer import Place

if TYPE_CHECKING:
    from pathlib import Path

    from .tracer import Row, Tracer

PORTS = 1000
# Below those that outgoing connections get; five digits each; which first is left to chance, for others may run tests.
FIRST_PORTS = random.sample(range(12000, 20000, PORTS), 8)


def is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe, suppress(OSError):
            probe.bind((address, port))
            continue
        return False
    return True


class Ports:
    """A thousand ports that no other has; hands out each once, so that no case sees the rows of another."""

    def __init__(self) -> None:
        first = FIRST_PORTS.pop()
        self.all = list(range(first, first + PORTS))
        self._left = iter(self.all)

    def take(self) -> int:
        return next(port for port in self._left if is_free(port))


@dataclass
class Stage:
    """Places to play at, and the rows that come of it."""

    tcp: Tracer
    unix: Tracer
    ports: Ports
    folder: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def place(self, family: str = "v4") -> Place:
        if family == "unix":
            return Place("unix", 10000, str(self.folder / f"{next(self._numbers)}.sock"))
        return Place(family, self.ports.take())

    def tracer_of(self, place: Place) -> Tracer:
        return self.unix if place.path else self.tcp

    def rows(self, place: Place, expect: int) -> list[Row]:
        """Waits for so many rows of a place, and for surplus ones."""
        return self.tracer_of(place).rows(expect, where=at(place))
