"""Whether the kernel may put a BPF program aside for another thread's.

At fentry and fexit it then skips the runs of that program on the same processor meanwhile (bpf_prog_enter_recur in
kernel/bpf/trampoline.c, `recursion_misses`): what they would have seen is lost, and counted. Breakpoints and raw
tracepoints run their programs with preemption off.
"""

from __future__ import annotations

import gzip
import platform
import re
from pathlib import Path

VERSION, COMMAND_LINE = Path("/proc/version"), Path("/proc/cmdline")
CHOSEN = Path("/sys/kernel/debug/sched/preempt")  # such as: none voluntary (full) lazy
CONFIGURATIONS = (Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}"))
KEEPS = {"none", "voluntary"}


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
