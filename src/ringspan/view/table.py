"""A plain table, refreshed in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ringspan.counts import Counts
    from ringspan.ledger import Ledger

RIGHT = {"Count", "Errors", "p50 ms", "p95 ms", "p99 ms", "Status"}
COLUMNS = ["Endpoint", "Method", "Status", "Count", "Errors", "p50 ms", "p95 ms", "p99 ms", "Process"]


@dataclass(frozen=True)
class Snapshot:
    """All that the table shows."""

    counts: Counts
    ledger: Ledger
    per_second: float


def render(snapshot: Snapshot, height: int) -> Group:
    """Lay a snapshot out for so many lines."""
    head = [Text(f"{snapshot.per_second:,.0f} requests/s", style="bold")]
    head += [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in snapshot.ledger.lines()]
    table = Table(box=None, pad_edge=False, expand=True)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=True, overflow="ellipsis")
    ordered = sorted(snapshot.counts.tallies.items(), key=lambda item: (-item[1].count, item[0]))
    shown = max(1, height - len(head) - 3)
    for key, tally in ordered[:shown]:
        times = [f"{tally.quantile_ms(q):.1f}" for q in (0.5, 0.95, 0.99)]
        cells = [key.endpoint, key.method, str(key.status), str(tally.count), str(tally.errors), *times, key.process]
        table.add_row(*(Text(cell) for cell in cells))
    more = [Text(f"... and {len(ordered) - shown} more", style="dim")] if len(ordered) > shown else []
    return Group(*head, table, *more)


class TableView:
    """Keeps a table on a terminal."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, screen=False)
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot over the one before."""
        self._live.update(render(snapshot, self._console.height), refresh=True)

    def close(self) -> None:
        """Leave the terminal as it was, the last table on it."""
        self._live.stop()
