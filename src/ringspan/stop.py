"""The signals that end a run."""

from __future__ import annotations

import os
import signal
from typing import Any


class Stop:
    """The first SIGINT, SIGTERM, SIGHUP or SIGQUIT asks for an orderly end, a second one ends at once.

    A plain flag, looked at often: an Event's lock can deadlock with a handler that runs on the same thread.
    """

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: Any) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True
