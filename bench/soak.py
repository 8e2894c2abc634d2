"""Does anything grow, leak or get lost in an hour? Mixed load, every part restarted in turn but ringspan.

sudo .venv/bin/python bench/soak.py [SECONDS] [--rate 450] [--out FOLDER]

nginx before gunicorn over a Unix socket, Node, Go and Java under steady rates, whole plans with slow and big bodies,
processes that live for one request, and connects that fail. Every 5 s: memory, descriptors, threads and CPU of
ringspan, the entries of its BPF maps, the kernel's counters, and its own metrics as a collector gets them; written to
FOLDER/samples.csv (bench/soak_picture.py draws them). After the load has ended nothing may be left in the maps.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from soak_load import Load  # noqa: E402
from soak_samples import EMPTY_AT_REST, Row, Sampler  # noqa: E402
from soak_stage import Collector, Place, Restarts, private_programs  # noqa: E402

EVERY_S = 5.0
SERVERS = ("nginx-gunicorn", "node", "go", "java")
REST_S = 15.0  # connections of Unix sockets are swept every 10 s
BLOCKS = 12


def start(url: str, programs: Path, errors: IO[str]) -> subprocess.Popen[str]:
    """Start ringspan; returns once it captures."""
    command = [sys.executable, "-m", "ringspan.cli", "trace", "--show", "lines", "--interval", "30"]
    command += ["--otlp", url, "--exe", f"{programs}/*", "--exe", f"{programs}/bin/*"]
    variables = os.environ | {"OTEL_METRIC_EXPORT_INTERVAL": str(int(EVERY_S * 1000))}
    child = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=errors, text=True)
    for _ in range(600):
        if "ready" in Path(errors.name).read_text():
            return child
        if child.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"ringspan did not start:\n{Path(errors.name).read_text()}")


def watch(
    seconds: float, child: subprocess.Popen[str], sampler: Sampler, collector: Collector, path: Path
) -> list[Row]:
    """Take samples for so long; they are in the file as far as they have come."""
    rows: list[Row] = []
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        if child.poll() is not None:
            raise SystemExit(f"ringspan has ended by itself, with {child.returncode}")
        sampler.reports.path = collector.metrics
        rows.append(sampler.sample(at))
        if len(rows) % 12 == 1:
            print(said(rows[-1]), flush=True)
            write(rows, path)
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - began - at)))
    write(rows, path)
    return rows


def said(row: Row) -> str:
    """Say one sample in a line."""
    lost = sum(value for name, value in row.items() if name.startswith("lost_"))
    tables = ", ".join(f"{name} {row[name]:.0f}" for name in EMPTY_AT_REST)
    queued = row.get("ringspan.spans.queued", 0)
    return (
        f"{row['seconds'] / 60:5.1f} min: {row['rss_kb']:.0f} KB ({row['anon_kb']:.0f} anonymous), "
        f"{row['fds']:.0f} fds, {row['threads']:.0f} threads, {row['cpu_percent']} %; {tables}; "
        f"seen {row['seen']:.0f}, lost {lost:.0f}; "
        f"acknowledged {row.get('ringspan.spans acknowledged', 0):.0f}, queued {queued:.0f}"
    )


def write(rows: list[Row], path: Path) -> None:
    """Write the samples; what only later ones know is empty in the earlier."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def slope(rows: list[Row], name: str) -> tuple[float, float]:
    """Return the slope over the last 80 %, an hour, and its standard error.

    Of the means of blocks: single samples hang together, which would make the error look smaller than it is.
    """
    late = rows[len(rows) // 5 :]
    blocks = np.array_split(np.array([(r["seconds"] / 3600, r[name]) for r in late]), BLOCKS)
    hours, values = np.array([block.mean(axis=0) for block in blocks if len(block)]).T
    away = hours - hours.mean()
    tilt = float((away * values).sum() / (away**2).sum())
    rest = values - values.mean() - tilt * away
    return tilt, float(np.sqrt((rest**2).sum() / max(1, len(hours) - 2) / (away**2).sum()))


def rest(sampler: Sampler, places: list[Place], began: float) -> dict[str, Row]:
    """Look at what is left: with the servers idle, then with them gone."""
    out = {}
    for name, act in (("servers idle", lambda: None), ("servers gone", lambda: [place.stop() for place in places])):
        act()
        time.sleep(REST_S)
        out[name] = sampler.sample(time.monotonic() - began)
    return out


def end(child: subprocess.Popen[str], errors: Path) -> list[str]:
    """End ringspan; returns its ledger."""
    child.send_signal(signal.SIGINT)
    child.wait(20)
    return [line for line in errors.read_text().splitlines() if line.startswith("ledger")]


def verdict(rows: list[Row], rests: dict[str, Row], ledger: list[str], spans: int) -> int:
    """Say what has come of it; returns the exit status."""
    for name, unit in (("rss_kb", "KB"), ("anon_kb", "KB"), ("fds", ""), ("threads", "")):
        tilt, error = slope(rows, name)
        first, last = rows[len(rows) // 5][name], rows[-1][name]
        print(f"{name}: {first:.0f} to {last:.0f}, {tilt:+.1f} +- {error:.1f} {unit} an hour")
    print(f"CPU: {np.mean([row['cpu_percent'] for row in rows]):.2f} % of a core")
    for when, row in rests.items():
        print(f"at rest, {when}: {said(row)}")
    leaks = {name: row for name in EMPTY_AT_REST if (row := rests["servers gone"][name])}
    print("\n".join(ledger))
    acknowledged = int(re.search(r"acknowledged (\d+)", "\n".join(ledger))[1])  # type: ignore[index]
    print(f"spans: {acknowledged} acknowledged, {spans} received ({spans - acknowledged} twice or with no answer)")
    broken = not ledger or any("off by" in line for line in ledger) or spans < acknowledged
    print(f"leaks: {leaks or 'none'}; ledger: {'BROKEN' if broken else 'closes'}")
    return 1 if leaks or broken else 0


def play(seconds: float, rate: int, out: Path, folder: Path, errors: IO[str]) -> int:
    """Run it all, with a folder for what goes away again."""
    with ExitStack() as stack:
        collector = Collector(folder)
        stack.callback(collector.stop)
        collector.start()
        child = start(collector.url, folder / "programs", errors)
        stack.callback(child.kill)
        places = [Place(name) for name in SERVERS]
        for place in places:
            stack.callback(place.stop)
        sampler, began = Sampler(child.pid), time.monotonic()
        load = Load(places, rate, folder)
        stack.callback(load.end)
        restarts = Restarts(places, collector, min(45.0, seconds / 12))
        stack.callback(restarts.end)
        rows = watch(seconds, child, sampler, collector, out / "samples.csv")
        restarts.end()
        load.end()
        rests = rest(sampler, places, began)
        # What the collector holds are the far ends of ringspan's exports: known, so that they are not looked at.
        rests["servers gone"]["connections"] = len(sampler.sockets() - collector.sockets())
        ledger = end(child, out / "ringspan.log")
    print(f"requests as clients counted: {dict(load.done)}; clients that failed: {dict(load.failed)}")
    print(f"restarts: {restarts.counts}")
    return verdict(rows, rests, ledger, collector.spans())


def soak(seconds: float, rate: int, out: Path) -> int:
    """Run it all; returns the exit status."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ringspan-soak-") as name, (out / "ringspan.log").open("w") as errors:
        private_programs(Path(name) / "programs")
        return play(seconds, rate, out, Path(name), errors)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("seconds", type=float, nargs="?", default=3600)
    parser.add_argument("--rate", type=int, default=450, help="steady requests a second, of all servers")
    parser.add_argument("--out", type=Path, default=Path("soak-out"))
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an interrupt does: everything is ended and cleaned up
    sys.exit(soak(chosen.seconds, chosen.rate, chosen.out))
