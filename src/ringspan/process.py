"""Processes by number and start: a number is given to others in time, the two together are not."""

from __future__ import annotations

import os
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def has_begun_at(root: Path, start_ns: int) -> bool:
    """Whether the process of a folder of /proc began then (since boot); raises OSError if there is none."""
    ticks = int((root / "stat").read_bytes().rsplit(b")", 1)[1].split()[19])
    return ticks == start_ns // TICK_NS
