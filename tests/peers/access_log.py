"""Reading the servers' own access logs: one pattern fits them all."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

QUIET_SECONDS = 0.1
WAIT_SECONDS = 10.0

# "GET /x HTTP/1.1" 200 [body sent [body received [encoding sent, encoding received]]]
LINE = re.compile(
    r'"(?P<method>\S+) (?P<target>\S+) HTTP/[\d.]+" (?P<status>\d{3})'
    r"(?: (?P<sent>\d+|-)\b)?(?: (?P<received>\d+|-)(?!\S))?"
    r"(?: (?P<coding_out>chunked|-) (?P<coding_in>chunked|-))?"
)


@dataclass(frozen=True)
class LoggedRequest:
    """One line of an access log; None where the server does not log a body's size."""

    method: str
    target: str
    status: int
    response_body_bytes: int | None
    request_body_bytes: int | None


def read(log: Path, expect: int | None = None) -> list[LoggedRequest]:
    """The log once it is quiet, and has at least ``expect`` lines if that comes in time."""
    end = time.monotonic() + WAIT_SECONDS
    text = _when_quiet(log)
    while expect is not None and len(parse(text)) < expect and time.monotonic() < end:
        text = _when_quiet(log)
    return parse(text)


def parse(text: str) -> list[LoggedRequest]:
    return [_logged(found) for found in map(LINE.search, text.splitlines()) if found]


def _when_quiet(log: Path) -> str:
    before = -1
    while (size := log.stat().st_size if log.exists() else 0) != before:
        before = size
        time.sleep(QUIET_SECONDS)
    return log.read_text(errors="replace") if log.exists() else ""


def _logged(found: re.Match[str]) -> LoggedRequest:
    return LoggedRequest(
        found["method"],
        found["target"],
        int(found["status"]),
        _size(found["sent"], found["coding_out"]),
        _size(found["received"], found["coding_in"]),
    )


def _size(logged: str | None, coding: str | None) -> int | None:
    """A size beside "chunked" counts the framing too, or is missing: not the body's size."""
    if coding == "chunked":
        return None
    if coding == "-" and logged == "-":
        return 0  # neither a length nor an encoding: no body
    return int(logged) if logged and logged.isdigit() else None
