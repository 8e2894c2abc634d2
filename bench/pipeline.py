"""How fast records become metrics, and spans that a real collector has acknowledged; root is not needed.

.venv/bin/python bench/pipeline.py [--records 200000]

Figures are per second of this process' CPU time, all its threads together: the collector beside it does not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from e2e.collector import collector  # noqa: E402
from ringspan.clock import Clock  # noqa: E402
from ringspan.deliver import Delivery, Limits  # noqa: E402
from ringspan.metrics.exchanges import ExchangeMetrics  # noqa: E402
from ringspan.metrics.exchanges import Limits as SeriesLimits  # noqa: E402
from ringspan.model import Identity, rows  # noqa: E402
from ringspan.otlp import endpoint, send  # noqa: E402
from ringspan.sampling import Rule, Sampler  # noqa: E402
from ringspan.spans import SpanMaker  # noqa: E402
from unit.rows import CLIENT, batch  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINTS, SERVICES = 40, 8
Batch = Any


def records(count: int) -> Batch:
    """Make records of some endpoints of some services, servers and clients, with an error now and then."""
    changes = [
        {
            "target": f"/api/v1/resource{i}?page={i}".encode(),
            "tgid": 100 + i % SERVICES,
            "user_agent": b"python-requests/2.32.3",
            "user_agent_bytes": 22,
            "status": 500 if i % 20 == 0 else 200,
            **(CLIENT if i % 2 else {}),
        }
        for i in range(ENDPOINTS)
    ]
    out = np.resize(batch(*changes), count)
    out["span_id"] = np.arange(1, count + 1)
    out["trace_id_low"] = np.arange(1, count + 1)
    out["end_ktime_ns"] = out["start_ktime_ns"] + np.random.default_rng(1).integers(1000, 10**9, count, dtype=np.uint64)
    return out


def cpu_s() -> float:
    """Return the CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def per_core(count: int, work: Callable[[], None]) -> float:
    """Return how many of count things a second of CPU does."""
    before = cpu_s()
    work()
    return count / (cpu_s() - before)


def who(row: Any) -> Identity:
    """Name a service by its process."""
    return Identity(f"service-{row.tgid}")


def to_metrics(all_records: Batch, size: int) -> float:
    """Aggregate batches of a size."""
    metrics = ExchangeMetrics(SeriesLimits(), who, 0, 1)
    parts = [all_records[at : at + size].copy() for at in range(0, len(all_records), size)]
    return per_core(len(all_records), lambda: [metrics.add(part, 0, 1) for part in parts] and None)


def to_decisions(all_records: Batch, size: int) -> float:
    """Aggregate batches of a size, and decide which records become spans."""
    metrics, sampler = ExchangeMetrics(SeriesLimits(), who, 0, 1), Sampler(Rule(1, parent_based=True), 2000)
    parts = [all_records[at : at + size].copy() for at in range(0, len(all_records), size)]

    def work() -> None:
        for number, part in enumerate(parts):
            sampler.keep(part, metrics.slowness(part, metrics.add(part, 0, 1)), number * 0.025)

    return per_core(len(all_records), work)


def to_collector(all_records: Batch, url: str, protocol: str, size: int) -> float:
    """Make spans and send them; returns acknowledged spans a second of CPU."""
    maker = SpanMaker(Clock(), who)
    parts = [all_records[at : at + size].copy() for at in range(0, len(all_records), size)]

    def work() -> None:
        running = Delivery(send.sender(endpoint.resolve("traces", url, protocol)), Limits(queue_spans=1 << 20))
        for part in parts:
            running.put([maker.span(row) for row in rows(part)])
            while running.counts().queued > 1 << 14:
                time.sleep(0.005)
        while running.counts().acknowledged < len(all_records):
            time.sleep(0.005)
        running.close(5)
        if running.counts().acknowledged != len(all_records):
            raise SystemExit(f"not all were acknowledged: {running.counts()}")

    return per_core(len(all_records), work)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--records", type=int, default=200_000)
    given = arguments.parse_args()
    all_records = records(given.records)
    print(f"machine {platform.machine()}, {os.cpu_count()} cpus, kernel {platform.release()}")
    print("| what | batch | per core and second |")
    print("| --- | --- | --- |")
    for size in (125, 1000, 4000):
        print(f"| records to metrics | {size} | {to_metrics(all_records, size):,.0f} |", flush=True)
        print(f"| ... and which become spans | {size} | {to_decisions(all_records, size):,.0f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder, collector(Path(folder)) as running:
        for protocol in ("grpc", "http/protobuf"):
            rate = to_collector(all_records, running.url(protocol), protocol, 1000)
            print(f"| records to acknowledged spans, {protocol} | 1000 | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
