"""How fast records come, and what ringspan itself takes for them."""

from __future__ import annotations

import time


class Rates:
    """Requests and own CPU per second, between two looks."""

    def __init__(self, now: float) -> None:
        self._before = now, 0, time.process_time()
        self.per_second = self.cpu = 0.0

    def read(self, now: float, records: int) -> None:
        """Look again."""
        then, count, used = self._before
        self._before = now, records, time.process_time()
        seconds = max(now - then, 1e-3)
        self.per_second = (records - count) / seconds
        self.cpu = (self._before[2] - used) / seconds
