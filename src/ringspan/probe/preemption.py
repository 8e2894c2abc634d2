"""Whether the kernel may put a BPF program aside for another thread's.

At fentry and fexit, and since Linux 7.0 at raw tracepoints, it then skips the runs of that program on the same
processor meanwhile (bpf_prog_enter_recur in kernel/bpf/trampoline.c, `recursion_misses`): what they would have seen is
lost, and counted. So several copies of each are attached, and perf events to system calls, since of a receive nothing
is noted by which a copy could tell that it was followed. Those and breakpoints run their programs with preemption off,
but skip all that begin on a processor while one of its threads, put aside, is inside bpf(2) (bpf_prog_active).
"""

from __future__ import annotations

import gzip
import platform
import re
from collections.abc import Collection
from pathlib import Path

from ringspan.probe import load

VERSION, COMMAND_LINE = Path("/proc/version"), Path("/proc/cmdline")
CHOSEN = Path("/sys/kernel/debug/sched/preempt")  # such as: none voluntary (full) lazy
CONFIGURATIONS = (Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}"))
KEEPS = {"none", "voluntary"}
COPIES = 3  # so many threads may be inside one program, on one processor, before a run is skipped
TRACEPOINTS = "-DHAS_PREEMPTED_TRACEPOINTS"  # of the kernel's types


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode(errors="replace")


def _model() -> str:
    """Return the model that a kernel with several of them runs by; empty if it cannot be found out."""
    chosen = re.search(r"\((\w+)\)", _read(CHOSEN)) or re.search(r"\bpreempt=(\w+)", _read(COMMAND_LINE))
    if chosen:
        return chosen[1]
    for path in CONFIGURATIONS:
        configured = re.search(r"^CONFIG_PREEMPT(?:_(NONE|VOLUNTARY|LAZY))?=y$", _read(path), re.MULTILINE)
        if configured:
            return (configured[1] or "full").lower()
    return ""


def preempts() -> str:
    """Return how the kernel preempts its own code; empty if it does not."""
    version = _read(VERSION)
    if "PREEMPT" not in version:
        return ""
    if "PREEMPT_DYNAMIC" not in version:
        return "realtime" if "PREEMPT_RT" in version else "full"
    model = _model()
    return "" if model in KEEPS else model or "unknown"


def copied(programs: Collection[int], features: Collection[str]) -> frozenset[int]:
    """Return of which types of programs (enum bpf_prog_type) copies are needed; `features` are those of read_types."""
    if not preempts():
        return frozenset()
    put_aside = {load.TRACING} | ({load.RAW_TRACEPOINT} if TRACEPOINTS in features else set())
    return frozenset(put_aside.intersection(programs))
