"""What ringspan takes from servers at full speed, beside what instrumentation inside of them takes.

sudo .venv/bin/python bench/overhead.py [--seconds 6] [--rounds 3] [--server nginx]

wrk (16 connections kept open, 1 thread), server, ringspan and collector share one machine, and wrk goes as fast as it
can: what a processor does for one of them, the others lack. Rounds interleave the variants, and a ratio is within its
round, so that the machine's drift hits all alike. A run has a server, a collector and a second of warm-up of its own.

CPU us/request is the time of wrk, server, ringspan and collector together: it tells more than requests/s does where
something else is busy on the machine, which the last column says (the share of one processor).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import cost  # noqa: E402
import served as serving  # noqa: E402
from sink import sink  # noqa: E402

from peers import build, load  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS, WARM_UP_S, SETTLE_S = 16, 1, 1.0
# Of a processor: interrupts of a full-speed load alone are up to 0.2, and belong to nobody. How long to wait for less.
BUSY, QUIET_WAIT_S = 0.25, 8
HEAD = "variant|requests/s|ratio to bare|CPU us/request|sent|counted|spans arrived|lost|ringspan|collector|others"


@dataclass(frozen=True)
class Variant:
    """What watches the server: nothing, unless ringspan has flags or the server is instrumented.

    aside: ringspan runs, but is asked for a port that nobody uses: what is left is its price on other people's calls.
    """

    name: str
    flags: tuple[str, ...] | None = None
    variables: dict[str, str] = field(default_factory=dict)
    instrumented: bool = False
    aside: bool = False


BARE = Variant("bare")
AGAIN = Variant("bare, once more")  # how far its ratio is from 1 is how far any other may be by chance
SAMPLED = Variant("ringspan, spans sampled", ())
INSIDE = Variant("OpenTelemetry inside", instrumented=True)
ON_NGINX = [
    BARE,
    AGAIN,
    Variant("ringspan, another port", (), aside=True),
    Variant("ringspan, all spans", ("--spans-per-second", "0")),
    SAMPLED,
    Variant("ringspan, metrics only", (), {"OTEL_TRACES_EXPORTER": "none"}),
]
ON_APPLICATIONS = [BARE, AGAIN, SAMPLED, INSIDE]
SERVERS = {
    "nginx": (None, ON_NGINX),
    "python": (serving.PYTHON, ON_APPLICATIONS),
    "node": (serving.NODE, ON_APPLICATIONS),
}


@dataclass
class Run:
    """One variant in one round."""

    rate: float
    sent: int
    ringspan_cpu: float
    collector_cpu: float
    all_cpu: float
    others_cpu: float
    ledger: str = ""
    spans: int = 0
    points: int = 0

    def entry(self, line: str, pattern: str) -> dict[str, int]:
        """Return what a line of the ledger says, by name or reason."""
        found = re.search(rf"^ledger {line}: (.*)$", self.ledger, re.MULTILINE)
        return {name: int(count) for name, count in re.findall(pattern, found[1] if found else "")}

    @property
    def cpu_us(self) -> float:
        """How much CPU a request took, of all that took part."""
        return 1e6 * self.all_cpu / self.rate

    @property
    def counted(self) -> int:
        """How many exchanges ringspan's metrics have counted."""
        return self.entry("metrics", r"(counted) (\d+)").get("counted", 0)

    def lost(self, variant: Variant) -> dict[str, int]:
        """Return what is missing, by reason."""
        if variant.instrumented:
            return {"did not arrive": max(0, self.sent - self.spans)}
        if not self.ledger or variant.aside:
            return {}
        unseen = self.sent - self.entry("exchanges", r"(seen) (\d+)").get("seen", 0)
        reasons = self.entry("exchanges", r"lost \(([^)]*)\) (\d+)")
        failed = self.entry("spans", r"failed \(([^)]*)\) (\d+)")
        return {"not seen": max(0, unseen), **reasons, **{f"spans: {key}": value for key, value in failed.items()}}


@dataclass
class Traced:
    """A tracer, if the variant has one, and its ledger when it has ended."""

    pid: int | None = None
    ledger: str = ""


@contextmanager
def traced(variant: Variant, port: int, otlp: str) -> Iterator[Traced]:
    """Trace while the block runs."""
    if variant.flags is None:
        yield Traced()
        return
    flags = ["--show", "none", "--otlp", otlp, "--protocol", "grpc", "--role", "server"]
    asked = ["--port", "1" if variant.aside else str(port)]
    tracer, _ = cost.start(*flags, *asked, *variant.flags, env=variant.variables)
    running = Traced(tracer.pid)
    try:
        yield running
    finally:
        tracer.send_signal(signal.SIGINT)
        running.ledger = tracer.communicate(timeout=30)[1]


def cpu(*pids: int | None) -> list[float]:
    """Return the CPU time of each process so far."""
    return [cost.cpu_seconds(pid) if pid else 0.0 for pid in pids]


def shared() -> tuple[float, float]:
    """Return the CPU time so far of what this bench has started, and of all else, the kernel's own threads included."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    parents, used = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            # With that of children that have ended: wrk is one when its requests are counted.
            parents[int(entry.name)], used[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    mine, tick = sum(used[pid] for pid in ours), os.sysconf("SC_CLK_TCK")
    return mine / tick, (user + nice + system + irq + softirq - mine) / tick


def await_quiet() -> None:
    """Wait for a second in which others do little, though not for long."""
    for _ in range(QUIET_WAIT_S):
        before = shared()[1]
        time.sleep(1)
        if shared()[1] - before < BUSY:
            return


def measure(served: serving.Served | None, variant: Variant, seconds: int) -> Run:
    """Run one variant once."""
    await_quiet()
    with sink() as collector:
        with serving.start(served, collector.url if variant.instrumented else None) as port:
            url = f"http://127.0.0.1:{port}/api/users"
            with traced(variant, port, collector.url) as tracer:
                with urllib.request.urlopen(url) as answer:  # anything but 200 raises, or has another body
                    assert b"Grace" in answer.read()
                warm = load.wrk_run(url, CONNECTIONS, 1, WARM_UP_S)
                before = [*cpu(tracer.pid, collector.pid), *shared()]
                requests = load.wrk_run(url, CONNECTIONS, 1, seconds)
                after = [*cpu(tracer.pid, collector.pid), *shared()]
                time.sleep(SETTLE_S)
        shares = [(end - begin) / seconds for begin, end in zip(before, after, strict=True)]
        run = Run(requests / seconds, 1 + warm + requests, *shares, tracer.ledger)
    run.spans, run.points = collector.spans, collector.points
    return run


def spread(values: list[float], digits: int) -> str:
    """Print the median and the extremes."""
    middle, low, high = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} ({low}-{high})"


def row(variant: Variant, runs: list[Run], bare: list[Run]) -> str:
    """Print the rounds of a variant as a row: medians, and sums of what was sent and what came of it."""
    ratios = [run.rate / other.rate for run, other in zip(runs, bare, strict=True)]
    prices = [run.cpu_us for run in runs]
    sent, spans = sum(run.sent for run in runs), sum(run.spans for run in runs)
    reasons: dict[str, int] = {}
    for run in runs:
        for reason, count in run.lost(variant).items():
            reasons[reason] = reasons.get(reason, 0) + count
    lost = "; ".join(f"{reason} {count} ({count / sent:.2%})" for reason, count in reasons.items() if count) or "0"
    watched = variant.flags is not None or variant.instrumented
    counted = str(sum(run.counted for run in runs)) if variant.flags is not None else "-"
    cells = [
        variant.name,
        f"{median(run.rate for run in runs):.0f}",
        spread(ratios, 2) if variant is not BARE else "1",
        spread(prices, 1),
        str(sent),
        counted,
        str(spans) if watched else "-",
        lost if watched else "-",
        f"{median(run.ringspan_cpu for run in runs):.0%}" if variant.flags is not None else "-",
        f"{median(run.collector_cpu for run in runs):.0%}" if watched else "-",
        f"{median(run.others_cpu for run in runs):.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def doubts(variant: Variant, run: Run) -> Iterator[str]:
    """Say what does not fit in a run; nothing is the rule."""
    if run.ledger:
        acknowledged = run.entry("spans", r"(acknowledged) (\d+)").get("acknowledged", 0)
        if acknowledged != run.spans:
            yield f"ringspan says {acknowledged} spans were acknowledged, the collector got {run.spans}"
        yield from re.findall(r"ledger not followed: (?!nothing).*|.*\(off by.*", run.ledger)
    if run.others_cpu >= BUSY:
        yield f"others took {run.others_cpu:.0%} of a processor"
    if (run.ledger or variant.instrumented) and not run.points:
        yield "no metrics arrived"


def compare(title: str, served: serving.Served | None, variants: list[Variant], given: argparse.Namespace) -> None:
    """Run all rounds of a server and print its table."""
    print(f"\n## {title}\n", flush=True)
    runs: dict[str, list[Run]] = {variant.name: [] for variant in variants}
    for number in range(given.rounds):
        for variant in variants:
            run = measure(served, variant, given.seconds)
            runs[variant.name].append(run)
            for doubt in doubts(variant, run):
                print(f"round {number + 1}, {variant.name}: {doubt}", flush=True)
            print(f"round {number + 1}, {variant.name}: {run.rate:.0f} requests/s", file=sys.stderr, flush=True)
    names = HEAD.split("|")
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for variant in variants:
        print(row(variant, runs[variant.name], runs[BARE.name]), flush=True)


def main() -> None:
    """Compare on each server that can be had here."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=6)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--server", choices=SERVERS, action="append", help="only this one; may be repeated")
    given = arguments.parse_args()
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    print(f"machine {platform.machine()}, {os.cpu_count()} cpus, kernel {platform.release()}; commit {commit}")
    print(f"wrk, {CONNECTIONS} connections kept open; {given.rounds} rounds of {given.seconds} s, variants interleaved")
    for name in given.server or SERVERS:
        served, variants = SERVERS[name]
        title = served.name if served else "nginx, 2 workers"
        try:
            if served:
                build.artifact(served.recipe)
            compare(title, served, variants, given)
        except build.PeerUnavailable as error:
            print(f"\n## {title}\n\nLEFT OUT: {error}", flush=True)


if __name__ == "__main__":
    main()
