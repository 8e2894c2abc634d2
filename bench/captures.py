"""What each capture costs in the kernel: its programs' time and runs per request, and per call that is no socket's.

sudo .venv/bin/python bench/captures.py [--seconds 5] [CAPTURE ...]
scripts/kernels 6.12 -- .venv/bin/python bench/captures.py              (emulated: compare the captures, not the times)
scripts/kernels 6.12 --count -- .venv/bin/python bench/captures.py      (instructions in place of nanoseconds)

In-kernel time is kernel.bpf_stats_enabled's, whose clock reads are part of each run.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import time

from cost import CONNECTIONS, load, servers, spent, start

CALLS = 200_000


def read_zeros() -> int:
    """Make calls that move bytes and are no socket's."""
    zeros = os.open("/dev/zero", os.O_RDONLY)
    for _ in range(CALLS):
        os.read(zeros, 1)
    os.close(zeros)
    return CALLS


def main() -> None:
    """Print a row for each capture."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("captures", nargs="*", default=["fentry", "kprobe", "syscall"])
    given = arguments.parse_args()
    print(f"machine {platform.machine()}, {os.cpu_count()} cpus, kernel {platform.release()}; nginx, wrk")
    unit = "instructions" if os.environ.get("LAB_COUNTS") == "1" else "ns"
    print(f"| capture | {unit} a request | runs a request | {unit} a read() of /dev/zero | runs |")
    print("| --- | --- | --- | --- | --- |")
    for capture in given.captures:
        with servers.start("nginx") as server:
            tracer, _ = start("--show", "none", "--capture", capture, "--port", str(server.port))
            time.sleep(0.5)
            url = f"{server.url}/api/users"
            _, request, runs = spent(tracer.pid, lambda url=url: load.wrk_run(url, CONNECTIONS, 1, given.seconds))
            _, call, call_runs = spent(tracer.pid, read_zeros)
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        print(f"| {capture} | {request:.0f} | {runs:.1f} | {call:.0f} | {call_runs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
