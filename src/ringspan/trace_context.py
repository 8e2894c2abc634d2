"""The traceparent and tracestate headers (W3C Trace Context, sections 3.2 and 3.3)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from opentelemetry.trace import TraceState

FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Parent(NamedTuple):
    """The ids a traceparent names, and whether its trace is sampled."""

    trace_id: int
    span_id: int
    sampled: bool = True


def parse(text: str) -> Parent | None:
    """Return the parent that a traceparent names, or None if it is not a valid one."""
    match = FORM.fullmatch(text)
    if not match or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    parent = Parent(int(match[2], 16), int(match[3], 16), bool(int(match[4], 16) & 1))
    return parent if parent.trace_id and parent.span_id else None


@lru_cache(maxsize=1024)
def state(text: str, *, cut: bool = False) -> str:
    """Return the valid members of a tracestate; of one that was cut, without the last."""
    if cut:
        text = text.rpartition(",")[0]
    return TraceState.from_header([text]).to_header() if text else ""
