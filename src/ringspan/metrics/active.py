"""Requests in flight, by service: an opt-in of the conventions (http.server.active_requests and the client's)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from opentelemetry.semconv.attributes import url_attributes

from ringspan import spans
from ringspan.metrics.exchanges import CALLED, METHOD, SERVER, Key
from ringspan.model import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ringspan.model import Identity

ATTRIBUTES = {SERVER: [METHOD, url_attributes.URL_SCHEME]}
KEYS_MAX = 4096


class ActiveRequests:
    """Counts exchanges that have begun and not ended; what is over is reported as 0 once."""

    def __init__(self, identify: Callable[[Any], Identity]) -> None:
        self._identify = identify
        self._before: set[Key] = set()

    def count(self, in_flight: np.ndarray[Any, np.dtype[Any]]) -> dict[Key, int]:
        """Count records of exchanges in flight by series."""
        now = Counter(self._key(row) for row in rows(in_flight))
        out = {key: now.get(key, 0) for key in [*now, *self._before]}
        self._before = set(list(now)[:KEYS_MAX])
        return out

    def _key(self, row: Any) -> Key:
        facts = spans.describe(row)
        names = ATTRIBUTES.get(facts.kind, [METHOD, *CALLED])
        found = facts.attributes
        return Key(facts.kind, self._identify(row), tuple((name, found[name]) for name in names if name in found))
