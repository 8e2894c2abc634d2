"""Kernel time to wall time."""

from __future__ import annotations

import time


class Clock:
    """Maps CLOCK_MONOTONIC (bpf_ktime_get_ns) to Unix time, both in nanoseconds; follows steps of the wall clock."""

    def __init__(self) -> None:
        self._offset = 0
        self.refresh()

    def refresh(self) -> None:
        """Measure the offset anew: the closest of a few looks at both clocks."""
        looks = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(3)]
        before, wall, after = min(looks, key=lambda look: look[2] - look[0])
        self._offset = wall - (before + after) // 2

    def unix_ns(self, ktime_ns: int) -> int:
        """Return Unix nanoseconds."""
        return ktime_ns + self._offset
