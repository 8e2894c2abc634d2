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


def main() -> None:
    """Run and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rate", type=int, default=5000)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--role", default="server")
    arguments.add_argument("--show", default="none")
    given = arguments.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(f"machine {platform.machine()}, {os.cpu_count()} cpus, kernel {platform.release()}")
    print(f"commit {commit.stdout.strip()}")
    with servers.start("nginx") as server:
        tracer, ready_s = start(
            "--port", str(server.port), "--role", given.role, "--show", given.show, "--interval", "1"
        )
        STATS.write_text("1")
        try:
            time.sleep(0.5)
            before, runs_before, cpu_before = *program_time(tracer.pid), cpu_seconds(tracer.pid)
            done = load.rate_run(f"{server.url}/api/users", given.rate, given.seconds, 16)
            after, runs_after = program_time(tracer.pid)
            cpu = cpu_seconds(tracer.pid) - cpu_before
        finally:
            STATS.write_text("0")
        time.sleep(0.3)
        memory = resident_mb(tracer.pid)
        logged = len(server.access_log())
        tracer.send_signal(signal.SIGINT)
        ledger = tracer.communicate()[1]
    requests = done["requests"]
    print(f"start-up to ready       {ready_s:.2f} s")
    print(f"consumer resident       {memory:.0f} MB")
    print(f"consumer CPU            {100 * cpu / given.seconds:.1f} % of a core")
    spent, runs = after - before, runs_after - runs_before
    print(f"in-kernel per request   {spent / requests / 1000:.2f} us ({runs / requests:.1f} runs)")
    print(f"requests sent / logged  {requests} / {logged}")
    print(ledger.strip())


if __name__ == "__main__":
    main()
