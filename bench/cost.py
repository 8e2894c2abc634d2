"""What ringspan costs: start-up, memory, in-kernel time per request, CPU of the consumer; nginx under two loads.

sudo .venv/bin/python bench/cost.py [--rate 5000] [--seconds 10] [--show none]

In-kernel time is that of all of ringspan's programs on every system call of the machine (kernel.bpf_stats_enabled), the
load tool's among them; the row with nothing asked for says how much of it is not for the requests.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from peers import load, servers  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 16
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


def start(*args: str, env: dict[str, str] | None = None) -> tuple[subprocess.Popen[str], float]:
    """Start a tracer, with variables beside its own; returns it and the seconds until it was ready."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "ringspan.cli", "trace", *args]
    variables = os.environ | (env or {})
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("ready"):
            return process, time.monotonic() - begin
    raise SystemExit("the tracer did not start")


def program_time(pid: int) -> tuple[int, int]:
    """Return (nanoseconds, runs) of the BPF programs that a process holds."""
    total = runs = 0
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        info = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        total += int(info.get("run_time_ns", 0))
        runs += int(info.get("run_cnt", 0))
    return total, runs


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmRSS"))) / 1024


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """What one run cost."""

    ready_s: float
    resident_mb: float
    cpu: float
    kernel_us: float
    runs: float
    requests: int
    ledger: str

    def line(self, load_name: str, asked: str) -> str:
        """Print it as a row of a table."""
        exchanges = next(line for line in self.ledger.splitlines() if "exchanges" in line).partition(": ")[2]
        return (
            f"| {load_name} | {asked} | {self.kernel_us:.2f} | {self.runs:.0f} | {100 * self.cpu:.1f} "
            f"| {self.resident_mb:.0f} | {self.ready_s:.2f} | {self.requests} | {exchanges} |"
        )


def spent(pid: int, work: Callable[[], int]) -> tuple[int, float, float]:
    """Return the units of a work, and nanoseconds and runs of a tracer's programs for each."""
    STATS.write_text("1")
    try:
        before, runs_before = program_time(pid)
        units = work()
        after, runs_after = program_time(pid)
    finally:
        STATS.write_text("0")
    return units, (after - before) / units, (runs_after - runs_before) / units


def measure(send: Callable[[], int], seconds: int, *flags: str) -> Cost:
    """Trace one load."""
    tracer, ready_s = start("--interval", "1", *flags)
    time.sleep(0.5)
    cpu_before = cpu_seconds(tracer.pid)
    requests, kernel_ns, runs = spent(tracer.pid, send)
    cpu = (cpu_seconds(tracer.pid) - cpu_before) / seconds
    time.sleep(0.3)
    memory = resident_mb(tracer.pid)
    tracer.send_signal(signal.SIGINT)
    ledger = tracer.communicate()[1]
    return Cost(ready_s, memory, cpu, kernel_ns / 1000, runs, requests, ledger)


def main() -> None:
    """Run each load with nothing asked for, one side, both sides; print a row for each."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rate", type=int, default=5000)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--show", default="none")
    given = arguments.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(f"machine {platform.machine()}, {os.cpu_count()} cpus, kernel {platform.release()}")
    print(f"commit {commit.stdout.strip()}; nginx, {CONNECTIONS} connections kept open")
    print(
        "| load | asked for | in-kernel us a request | runs a request | CPU % | MB | ready s | requests | exchanges |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with servers.start("nginx") as server:
        url, port = f"{server.url}/api/users", str(server.port)
        loads = {
            "wrk, full speed": lambda: load.wrk_run(url, CONNECTIONS, 1, given.seconds),
            f"vegeta, {given.rate}/s": lambda: load.rate_run(url, given.rate, given.seconds, CONNECTIONS)["requests"],
        }
        asked = {
            "nothing": ["--port", "1"],
            "the server's side": ["--port", port, "--role", "server"],
            "both sides": ["--port", port],
        }
        for load_name, send in loads.items():
            for what, flags in asked.items():
                cost = measure(send, given.seconds, "--show", given.show, *flags)
                print(cost.line(load_name, what), flush=True)


if __name__ == "__main__":
    main()
