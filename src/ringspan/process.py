"""Processes by number and start: a number is given to others in time, the two together are not."""

from __future__ import annotations

import os
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
STARTED, HEAP, ARGUMENTS = 19, 44, 45  # of the words after the name in /proc/PID/stat (proc(5): 22, 47, 48)


def _words(root: Path) -> list[bytes]:
    return (root / "stat").read_bytes().rsplit(b")", 1)[1].split()


def has_begun_at(root: Path, start_ns: int) -> bool:
    """Whether the process of a folder of /proc began then (since boot); raises OSError if there is none."""
    return int(_words(root)[STARTED]) == start_ns // TICK_NS


def image(root: Path) -> int:
    """Return what tells the exec that a process runs (bpf/maps.h: image_of); 0 if it may not be known."""
    words = _words(root)
    return (int(words[ARGUMENTS]) ^ int(words[HEAP]) << 16) & (1 << 64) - 1
