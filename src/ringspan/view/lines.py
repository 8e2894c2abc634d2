"""Cumulative counts, most used first: `Endpoint: /api/users, Status Code: 404, Count: 12`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringspan.counts import Counts


def text(counts: Counts) -> str:
    """Return one line for each endpoint and status."""
    sums: Counter[tuple[str, int]] = Counter()
    for key, count in counts.totals():
        sums[key.endpoint, key.status] += count
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return "".join(f"Endpoint: {name}, Status Code: {status}, Count: {n}\n" for (name, status), n in ordered)
