"""An attached probe, by its descriptors: counters, run times, and the end of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ringspan import contract
from ringspan.errors import CannotTrace
from ringspan.probe import maps

CONFIRMED = 1  # enum confirmation in bpf/state.h


@dataclass(frozen=True)
class Chosen:
    """The capture that was chosen, by which means, and why not by the means preferred to it."""

    capture: str
    how: str
    obstacles: list[str]

    def __str__(self) -> str:
        """Say it in a line."""
        why = f"; not {'; not '.join(self.obstacles)}" if self.obstacles else ""
        return f"capture {self.capture} ({self.how}{why})"


@dataclass
class Probe:
    """An attached probe: it lives as long as these descriptors do."""

    maps: dict[str, int]
    links: dict[str, int]
    functions: dict[str, int]
    connection_bytes: int
    chosen: Chosen
    page_bytes: int = field(default_factory=lambda: os.sysconf("SC_PAGESIZE"))

    def counters(self) -> dict[str, int]:
        """Return the kernel's counts by name, as in `enum counter`, in lower case."""
        names = contract.names("COUNTER_")
        values = maps.sum_counters(self.maps["counters"], contract.number("COUNTERS"))
        return {names[i]: value for i, value in enumerate(values)}

    def missed_runs(self) -> int:
        """Return how often the kernel skipped a program that was running already (its fdinfo's recursion_misses)."""
        return sum(self._fdinfo(fd).get("recursion_misses", 0) for fd in self.functions.values())

    def run_time(self) -> tuple[int, int]:
        """Return (nanoseconds, runs) of all programs; zero unless kernel.bpf_stats_enabled is on."""
        infos = [self._fdinfo(fd) for fd in self.functions.values()]
        return sum(i.get("run_time_ns", 0) for i in infos), sum(i.get("run_cnt", 0) for i in infos)

    def in_flight(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the records of exchanges that have begun, are confirmed as HTTP, and have not ended."""
        fd, record = self.maps["exchanges"], contract.RECORD.itemsize
        values = (maps.lookup(fd, key, record + 8) for key in maps.keys(fd, 16))
        return np.frombuffer(
            b"".join(value[:record] for value in values if value and value[record] == CONFIRMED), contract.RECORD
        )

    def detach(self) -> None:
        """Stop capture; what is in the ring and the maps can still be read."""
        for fd in self.links.values():
            os.close(fd)
        self.links = {}

    def close(self) -> None:
        """Let go of everything; the kernel then frees programs and maps."""
        self.detach()
        for fd in (*self.maps.values(), *self.functions.values()):
            os.close(fd)
        self.maps, self.functions = {}, {}

    @staticmethod
    def _fdinfo(fd: int) -> dict[str, int]:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:  # noqa: PTH123
            pairs = (line.split(":", 1) for line in file if ":" in line)
            return {key.strip(): int(value) for key, value in pairs if value.strip().isdigit()}


def check_layout(there: dict[str, list[int]]) -> None:
    """Compare the record that BCC's clang laid out with the one decoded here; raises CannotTrace if they differ."""
    fields: Mapping[str, Any] = contract.RECORD.fields or {}
    here = {name: [int(offset), int(kind.itemsize)] for name, (kind, offset, *_) in fields.items()}
    if there != here:
        wrong = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
        raise CannotTrace(
            f"the record's layout in BPF is not contract.h's: {', '.join(wrong)}", "this is a bug: please report it"
        )
