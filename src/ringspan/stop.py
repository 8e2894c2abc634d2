"""The signals that end a run, and the one that has its settings read again."""

from __future__ import annotations

import os
import signal
from typing import Any


def has_terminal() -> bool:
    """Whether there is a terminal that controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Stop:
    """The first SIGINT, SIGTERM or SIGQUIT asks for an orderly end, a second one ends at once.

    SIGHUP does the same where it says that the terminal has gone; else it asks for settings to be read again.
    A plain flag, looked at often: an Event's lock can deadlock with a handler that runs on the same thread.
    """

    def __init__(self, *, has_file: bool = False) -> None:
        self.asked = self.reload = False
        self._has_file = has_file
        self._on_terminal = has_terminal()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP and not self._hung_up():
            self.reload = True
            return
        if self.asked:
            os._exit(128 + number)
        self.asked = True

    def _hung_up(self) -> bool:
        """Whether a SIGHUP means what it once did: the terminal that we were started on is no more."""
        return self._on_terminal and not (self._has_file and has_terminal())
