"""What a running ringspan holds, looked at from outside: memory, descriptors, threads, BPF maps, kernel counters."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from e2e.held_maps import open_tables
from ringspan import contract
from ringspan.probe import maps

# By the first 15 bytes of a map's name, which are all that the kernel keeps.
TABLES = ("connections", "exchanges", "calls", "readers", "attempts", "own_endpoints", "judged_executab")
EMPTY_AT_REST = TABLES[:5]
HEAD = contract.header().structs["connection_head"]
Row = dict[str, float]


@dataclass
class Reports:
    """The metrics that ringspan has sent, as a collector's file exporter wrote them; one file after the other."""

    path: Path | None = None
    latest: Row = field(default_factory=dict)
    _at: int = 0
    _of: Path | None = None

    def read(self) -> Row:
        """Return the latest number of each of ringspan's own metrics."""
        if self.path != self._of:
            self._of, self._at = self.path, 0
        if self._of and self._of.exists():
            with self._of.open("rb") as file:
                file.seek(self._at)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._at += len(line)
                    self.latest.update(own_metrics(json.loads(line)))
        return self.latest


def own_metrics(report: dict[str, Any]) -> Row:
    """Take ringspan's accounts out of a report: `ringspan.spans acknowledged` and the like."""
    out: Row = {}
    for group in report.get("resourceMetrics", []):
        for metric in (one for scope in group["scopeMetrics"] for one in scope["metrics"]):
            if metric["name"].startswith("ringspan."):
                for point in metric.get("sum", metric.get("gauge", {})).get("dataPoints", []):
                    words = [one["value"].get("stringValue", "") for one in point.get("attributes", [])]
                    out[" ".join([metric["name"], *words])] = float(point.get("asInt", point.get("asDouble", 0)))
    return out


class Sampler:
    """Takes samples of one process."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self._tables = open_tables(pid)
        self._cpu, self._looked = self._cpu_seconds(), time.monotonic()
        self.reports = Reports()

    @property
    def rooms(self) -> dict[str, int]:
        """How many entries each table has room for."""
        return {name: self._tables[name].room for name in TABLES}

    def sample(self, at: float) -> Row:
        """Look once; `at` is in seconds."""
        row: Row = {"seconds": round(at, 1), **self._process()}
        row |= {name: self._tables[name].entries() for name in TABLES}
        return row | self.counters() | self.reports.read()

    def counters(self) -> Row:
        """Return the kernel's counters."""
        names = contract.names("COUNTER_")
        values = maps.sum_counters(self._tables["counters"].fd, contract.number("COUNTERS"))
        return {names[i]: value for i, value in enumerate(values)}

    def sockets(self) -> set[int]:
        """Return the inodes of the connections that are followed."""
        table = self._tables["connections"]
        values = [maps.lookup(table.fd, key, table.value_bytes) for key in maps.keys(table.fd, table.key_bytes)]
        return {int(np.frombuffer(value, HEAD, 1)["inode"][0]) for value in values if value}

    def _process(self) -> Row:
        status = dict(
            line.split(":\t", 1) for line in (self._proc / "status").read_text().splitlines() if ":\t" in line
        )
        used, now = self._cpu_seconds(), time.monotonic()
        percent = 100 * (used - self._cpu) / max(now - self._looked, 0.1)
        self._cpu, self._looked = used, now
        return {
            "rss_kb": int(status["VmRSS"].split()[0]),
            "anon_kb": int(status["RssAnon"].split()[0]),
            "fds": len(list((self._proc / "fd").iterdir())),
            "threads": int(status["Threads"]),
            "cpu_percent": round(percent, 2),
        }

    def _cpu_seconds(self) -> float:
        words = (self._proc / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
