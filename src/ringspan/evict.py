"""Crowded tables: connections that have been idle longest make room, so that no peer can fill a table for good.

What is given up is counted by the kernel (lost (evicted)); a connection that moves again is picked up as one that was
there before the trace. Those that moved lately stay, but for those with dozens of requests in flight: a table full of
busy ones refuses new ones, which is counted too.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ringspan.probe.session import Connections, Probe

HIGH, LOW = 0.9, 0.75  # crowded from here on; emptied down to there
IDLE_NS = 1_000_000_000
MANY = 16  # in flight on one connection: some peers could else fill the table, busy as they look
AT_ONCE = 8192  # in one look: some 40 ms
Array = np.ndarray[Any, np.dtype[Any]]
log = logging.getLogger(__name__)


class Evictor:
    """Looks at the tables of connections and exchanges, and makes room where they are crowded."""

    def __init__(self, probe: Probe, connections: int, exchanges: int) -> None:
        self._probe = probe
        self._connections, self._exchanges = connections, exchanges
        self._able = True

    def evict(self) -> None:
        """Make room, if that is needed and the kernel is able to."""
        if not self._able:
            return
        owners = [np.empty(0, np.uint64), *(some.connections.copy() for some in self._probe.exchanges())]
        in_flight, found = np.concatenate(owners), self._probe.connections()
        try:
            if len(found.keys) > HIGH * self._connections:
                self._drop_connections(found, in_flight)
            if len(in_flight) > HIGH * self._exchanges:
                self._drop_exchanges(found, in_flight)
        except OSError as error:
            self._able = False
            log.warning("full tables stay full: this kernel cannot evict: %s", error.strerror)

    def _drop_connections(self, found: Connections, in_flight: Array) -> None:
        """Those with nothing in flight first: they lose nothing."""
        idle = _idle(found.heads)
        busy = np.isin(found.heads["identity"][idle], in_flight)
        order = idle[np.lexsort((found.heads["moved_ns"][idle], busy))]
        for i in order[: min(AT_ONCE, len(found.keys) - int(LOW * self._connections))]:
            self._probe.evict(int(found.keys[i]), found.heads[i], whole=True)

    def _drop_exchanges(self, found: Connections, in_flight: Array) -> None:
        """Of those that are idle longest first, then of those that hold the most."""
        owners, counts = np.unique(in_flight, return_counts=True)
        holders = np.flatnonzero(np.isin(found.heads["identity"], owners))
        held = counts[np.searchsorted(owners, found.heads["identity"][holders])]
        busy = ~np.isin(holders, _idle(found.heads))
        order = np.lexsort((np.where(busy, -held, found.heads["moved_ns"][holders].astype(np.int64)), busy))
        order = order[~busy[order] | (held[order] >= MANY)]
        wanted = min(AT_ONCE, len(in_flight) - int(LOW * self._exchanges))
        for i in order[: int(np.searchsorted(np.cumsum(held[order]), wanted)) + 1]:
            self._probe.evict(int(found.keys[holders[i]]), found.heads[holders[i]], whole=False)


def _idle(heads: Array) -> Array:
    """Return which connections have moved nothing for a while."""
    return np.flatnonzero(time.monotonic_ns() - heads["moved_ns"].astype(np.int64) >= IDLE_NS)
