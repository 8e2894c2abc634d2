"""What flows through user space: a record as a row, and the span made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ringspan import contract

if TYPE_CHECKING:
    from collections.abc import Callable

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
    attributes: tuple[tuple[str, str], ...] = ()  # what else its resource has


class Route(NamedTuple):
    """A route: a template of paths; and whether it was learned, not given."""

    template: str
    learned: bool = False


class Routes(NamedTuple):
    """The routes of a batch: of each record its number, and what has that number."""

    numbers: np.ndarray[Any, np.dtype[np.int64]]
    of: Callable[[int], Route | None]


@dataclass
class Facts:
    """What a span shares with all that are alike: same endpoint, answer, client; made once for them."""

    name: str
    kind: str  # "server" or "client"
    is_error: bool
    attributes: dict[str, Any]
    truncated: list[str] = field(default_factory=list)
    encoded: bytes = b""  # by whoever sends it


@dataclass
class Span:
    """One span, in OpenTelemetry's words; times in nanoseconds, ids as integers."""

    facts: Facts
    own: dict[str, int]  # the attributes it does not share
    trace_id: int
    span_id: int
    parent_span_id: int | None
    parent_is_remote: bool  # made by another process
    trace_state: str
    start_unix_ns: int
    duration_ns: int
    first_byte_ns: int | None
    request_body_bytes: int
    response_body_bytes: int
    identity: Identity

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes."""
        return self.facts.attributes | self.own
