"""The errors a user can cause or meet; each says what failed, why, and what to do. Caught once, in cli."""

from __future__ import annotations


class RingspanError(Exception):
    """An error with a remedy and an exit status."""

    exit_status = 1

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class UsageError(RingspanError):
    """A flag, a configuration key or a value is wrong."""

    exit_status = 2


class CannotTrace(RingspanError):
    """This machine, kernel or user does not allow tracing."""

    exit_status = 3
