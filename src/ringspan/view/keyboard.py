"""Single keys of the terminal we run in, without waiting for them; nothing where standard input is no terminal."""

from __future__ import annotations

import atexit
import os
import select
import sys
import termios
import tty
from contextlib import suppress
from typing import Any

CHUNK_BYTES = 64


class Keyboard:
    """Reads keys as they are pressed; the terminal's modes are put back at the end, however it comes."""

    def __init__(self) -> None:
        self._fd = -1
        self._modes: list[Any] = []
        try:
            fd = sys.stdin.fileno()
            if not os.isatty(fd) or os.tcgetpgrp(fd) != os.getpgrp():  # in the background we must not touch it
                return
            self._modes = termios.tcgetattr(fd)
            tty.setcbreak(fd)
        except (OSError, ValueError, AttributeError, termios.error):
            return
        self._fd = fd
        atexit.register(self.close)

    def pressed(self) -> str:
        """Return the keys pressed since the last call."""
        if self._fd < 0 or not select.select([self._fd], [], [], 0)[0]:
            return ""
        try:
            return os.read(self._fd, CHUNK_BYTES).decode(errors="ignore").lower()
        except OSError:
            return ""

    def close(self) -> None:
        """Put the terminal's modes back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(fd, termios.TCSADRAIN, self._modes)
