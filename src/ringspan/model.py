"""What flows through user space: a record as a row, and the span made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ringspan import contract

if TYPE_CHECKING:
    import numpy as np

Row = NamedTuple("Row", [(name.lstrip("_"), Any) for name in contract.RECORD.names or ()])  # type: ignore[misc]


def rows(batch: np.ndarray[Any, np.dtype[Any]]) -> list[Any]:
    """Turn a batch of records into rows of Python values; texts are bytes without trailing NULs."""
    return [Row._make(values) for values in batch.tolist()]


@dataclass(frozen=True)
class Identity:
    """Who made or served a request."""

    service_name: str
    executable: str | None = None


@dataclass
class Span:
    """One span, in OpenTelemetry's words; times in nanoseconds, ids as integers."""

    name: str
    kind: str  # "server" or "client"
    trace_id: int
    span_id: int
    parent_span_id: int | None
    trace_state: str
    start_unix_ns: int
    duration_ns: int
    first_byte_ns: int | None
    is_error: bool
    request_body_bytes: int
    response_body_bytes: int
    identity: Identity
    truncated: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
