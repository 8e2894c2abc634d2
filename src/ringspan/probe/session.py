"""An attached probe, by its descriptors: counters, run times, and the end of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ringspan import contract
from ringspan.errors import CannotTrace
from ringspan.probe import maps

CONFIRMED = 1  # enum confirmation in bpf/state.h
EXCHANGE_KEY_BYTES, CONNECTION_KEY_BYTES = 16, 8
HEAD = contract.header().structs["connection_head"]
LOOK = contract.header().structs["look"]
Array = np.ndarray[Any, np.dtype[Any]]


class Exchanges(NamedTuple):
    """Some of the exchanges that have begun and not ended: views, good until the next ones are read."""

    keys: Array  # bytes, one row each
    records: Array
    confirmed: Array  # as HTTP

    @property
    def connections(self) -> Array:
        """The identity of each one's connection."""
        return self.keys.view(np.uint64)[:, 0]


class Connections(NamedTuple):
    """All connections: their keys, and how their states begin."""

    keys: Array
    heads: Array


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
        """Return how often at most the kernel skipped a program, and its copies (fdinfo's recursion_misses)."""
        missed: dict[str, int] = {}
        for name, fd in self.functions.items():
            one = name.partition(" ")[0]
            here = self._fdinfo(fd).get("recursion_misses", 0)
            missed[one] = min(missed.get(one, here), here)
        return sum(missed.values())

    def run_time(self) -> tuple[int, int]:
        """Return (nanoseconds, runs) of all programs; zero unless kernel.bpf_stats_enabled is on."""
        infos = [self._fdinfo(fd) for fd in self.functions.values()]
        return sum(i.get("run_time_ns", 0) for i in infos), sum(i.get("run_cnt", 0) for i in infos)

    def in_flight(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the records of exchanges that have begun, are confirmed as HTTP, and have not ended."""
        parts = [some.records[some.confirmed] for some in self.exchanges()]
        return np.concatenate(parts) if parts else np.empty(0, contract.RECORD)

    def count_in_flight(self) -> int:
        """Return how many exchanges have begun, are confirmed as HTTP, and have not ended."""
        return sum(int(some.confirmed.sum()) for some in self.exchanges())

    def exchanges(self) -> Iterator[Exchanges]:
        """Read the table of exchanges."""
        size = contract.RECORD.itemsize
        for keys, values in maps.entries(self.maps["exchanges"], EXCHANGE_KEY_BYTES, size + 8):
            records = np.ndarray(len(values), contract.RECORD, values, strides=values.strides[:1])
            yield Exchanges(keys, records, values[:, size] == CONFIRMED)

    def connections(self) -> Connections:
        """Read the table of connections."""
        keys, heads = [np.empty(0, np.uint64)], [np.empty(0, HEAD)]
        for some, values in maps.entries(self.maps["connections"], CONNECTION_KEY_BYTES, self.connection_bytes):
            keys.append(some.view(np.uint64)[:, 0].copy())
            heads.append(np.ndarray(len(values), HEAD, values, strides=values.strides[:1]).copy())
        return Connections(np.concatenate(keys), np.concatenate(heads))

    def evict(self, key: int, head: Any, *, whole: bool) -> bool:
        """Give up a connection, or what is in flight on it; whether that was done. Raises OSError before Linux 5.10."""
        asked = np.zeros(1, contract.header().structs["eviction"])
        asked["connection"], asked["identity"], asked["moved_ns"] = key, head["identity"], head["moved_ns"]
        asked["whole"] = whole
        return bool(maps.run(self.functions["on_evict"], asked.tobytes()))

    def is_gone(self, key: int, identity: int, *, forget: bool = False) -> bool:
        """Whether a connection has ended, or its Unix socket; may forget it then. Raises OSError before Linux 5.10."""
        return bool(maps.run(self.functions["on_look"], np.array((key, identity, forget), LOOK).tobytes()))

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
