"""Switches of the kernel's that keep what is attached from running, though it stays attached."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

# Of the second nothing is known where debugfs is not mounted.
FTRACE, KPROBES = Path("/proc/sys/kernel/ftrace_enabled"), Path("/sys/kernel/debug/kprobes/enabled")
# On x86 a breakpoint at a function's entry goes by ftrace (CONFIG_KPROBES_ON_FTRACE).
BY_MEANS = {"fentry": (FTRACE,), "kprobe": (FTRACE, KPROBES) if platform.machine() == "x86_64" else (KPROBES,)}
log = logging.getLogger(__name__)


def found_off(means: str) -> str:
    """Say which switch keeps what is attached by these means from running; empty if none is known to."""
    return next((f"{switch} is 0" for switch in BY_MEANS.get(means, ()) if _is_off(switch)), "")


def _is_off(switch: Path) -> bool:
    try:
        return switch.read_text().strip() == "0"
    except OSError:  # not there, or not for us to read
        return False


class Watch:
    """Looks from time to time whether what is attached runs; `seconds` are those in which it was found not to."""

    def __init__(self, means: str, now: float) -> None:
        self._means = means
        self._looked = now
        self._was_off = ""
        self._off_s = 0.0

    @property
    def seconds(self) -> int:
        """For how long it did not run, rounded up."""
        return -int(-self._off_s // 1)

    def look(self, now: float) -> None:
        """Look; say so when it begins or ceases to run."""
        off = found_off(self._means)
        if off:
            self._off_s += now - self._looked
        if off and not self._was_off:
            log.warning("%s: nothing is seen until it is 1 again", off)
        elif self._was_off and not off:
            log.warning("what is attached runs again")
        self._looked, self._was_off = now, off
