"""What ringspan costs: start-up, memory, in-kernel time per request, CPU of the consumer; nginx under a fixed rate.

sudo .venv/bin/python bench/cost.py [--rate 5000] [--seconds 10] [--role server]
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from peers import load, servers  # noqa: E402

STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


def start(*args: str) -> tuple[subprocess.Popen[str], float]:
    """Start a tracer; returns it and the seconds until it was ready."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "ringspan.cli", "trace", *args]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
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
    logged: int
    ledger: str


def measure(server: servers.Server, rate: int, seconds: int, *flags: str) -> Cost:
    """Trace one load; kernel time is all of ringspan's programs', on every system call of the machine."""
    logged_before = len(server.access_log())
    tracer, ready_s = start("--interval", "1", *flags)
    STATS.write_text("1")
    try:
        time.sleep(0.5)
        before, runs_before, cpu_before = *program_time(tracer.pid), cpu_seconds(tracer.pid)
        requests = load.rate_run(f"{server.url}/api/users", rate, seconds, 16)["requests"]
        after, runs_after = program_time(tracer.pid)
        cpu = (cpu_seconds(tracer.pid) - cpu_before) / seconds
    finally:
        STATS.write_text("0")
    time.sleep(0.3)
    memory = resident_mb(tracer.pid)
    tracer.send_signal(signal.SIGINT)
    ledger = tracer.communicate()[1]
    spent, runs = (after - before) / requests / 1000, (runs_after - runs_before) / requests
    return Cost(ready_s, memory, cpu, spent, runs, requests, len(server.access_log()) - logged_before, ledger)


def main() -> None:
    """Run the load with nothing asked for, then with all of it, and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rate", type=int, default=5000)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--show", default="none")
    given = arguments.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(f"machine {platform.machine()}, {os.cpu_count()} cpus, kernel {platform.release()}")
    print(
        f"commit {commit.stdout.strip()}; nginx, {given.rate} requests/s, both ends traced, so two exchanges a request"
    )
    with servers.start("nginx") as server:
        idle = measure(server, given.rate, given.seconds, "--show", "none", "--port", "1")
        cost = measure(server, given.rate, given.seconds, "--show", given.show, "--port", str(server.port))
    print(f"start-up to ready          {cost.ready_s:.2f} s")
    print(f"consumer resident          {cost.resident_mb:.0f} MB")
    print(
        f"consumer CPU               {100 * cost.cpu:.1f} % of a core ({100 * idle.cpu:.1f} % with nothing asked for)"
    )
    print(f"in-kernel, all calls       {cost.kernel_us:.2f} us a request ({cost.runs:.0f} program runs)")
    print(f"in-kernel, nothing asked   {idle.kernel_us:.2f} us a request ({idle.runs:.0f} program runs)")
    print(f"in-kernel per exchange     {(cost.kernel_us - idle.kernel_us) / 2:.2f} us (the difference, two exchanges)")
    print(f"requests sent / logged     {cost.requests} / {cost.logged}")
    print(cost.ledger.strip())


if __name__ == "__main__":
    main()
