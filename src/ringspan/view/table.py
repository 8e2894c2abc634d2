"""The live table: a terminal of any width, sorted as asked by a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ringspan.counts import Line
from ringspan.view.keyboard import Keyboard

if TYPE_CHECKING:
    from collections.abc import Callable

ORDERS = {"c": "count", "e": "errors", "l": "latency", "n": "name"}
RIGHT = {"St", "Count", "Err", "p50", "p95", "p99"}
COLUMNS = ["Endpoint", "Method", "St", "Count", "Err", "p50", "p95", "p99", "Process"]
PROCESS_WIDTH = 12
LEDGER_LINES, MARGIN = 6, 3


@dataclass(frozen=True)
class Snapshot:
    """All that the table shows."""

    lines: list[Line]
    total: int  # lines there are
    order: str
    per_second: float
    failed_connects: dict[str, int]
    lost: int
    ledger: list[str] = field(default_factory=list)
    cpu: float = 0.0  # cores
    resident_bytes: int = 0


def duration(seconds: float) -> str:
    """Print a duration in three or four characters and its unit."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f}ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 100 else f"{seconds / 60:.0f}m"


def style_of(line: Line) -> str:
    """Errors stand out: what failed or a 5xx in red, a 4xx in yellow."""
    if not line.key.status or line.key.status >= 500:
        return "red"
    return "yellow" if line.key.status >= 400 else ""


def header(snapshot: Snapshot) -> list[Text]:
    """What stands above the table: rate, failed connects, losses, cost."""
    first = Text(f"{snapshot.per_second:,.0f} requests/s", style="bold")
    first.append(f"   ringspan: {100 * snapshot.cpu:.1f} % CPU, {snapshot.resident_bytes >> 20} MB", style="dim")
    first.append("   lost ", style="dim")
    first.append(f"{snapshot.lost:,}", style="bold red" if snapshot.lost else "dim")
    out = [first]
    if snapshot.failed_connects:
        words = ", ".join(f"{word} {count:,}" for word, count in sorted(snapshot.failed_connects.items()))
        out.append(Text(f"failed connects: {words}", style="red"))
    return [*out, *(Text(line, style="dim") for line in snapshot.ledger)]


def render(snapshot: Snapshot) -> Group:
    """Lay a snapshot out."""
    head = header(snapshot)
    for text in head:
        text.no_wrap, text.overflow = True, "ellipsis"
    table = Table(box=None, pad_edge=False, expand=True, header_style="bold")
    for name in COLUMNS:
        width = PROCESS_WIDTH if name == "Process" else None
        right = name in RIGHT
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name == "Endpoint" else None,
            max_width=width,
        )
    for line in snapshot.lines:
        key = line.key
        times = [duration(value) for value in (line.p50, line.p95, line.p99)]
        cells = [key.endpoint, key.method, str(key.status), str(line.count), str(line.errors), *times, key.process]
        table.add_row(*(Text(cell) for cell in cells), style=style_of(line))
    left = snapshot.total - len(snapshot.lines)
    foot = f"by {snapshot.order}" + (f", {left:,} more" if left > 0 else "")
    foot += "; sort by c count, e errors, l latency, n name"
    return Group(*head, table, Text(foot, style="dim", no_wrap=True, overflow="ellipsis"))


class TableView:
    """Keeps a table on a terminal's other screen, and leaves the last one on the first; elsewhere it prints each."""

    def __init__(self) -> None:
        self._console = Console()
        self._order = ORDERS["c"]
        self._last: Snapshot | None = None
        self._keyboard = Keyboard()
        self._live = Live(console=self._console, auto_refresh=False, screen=True) if self._console.is_terminal else None
        if self._live:
            self._live.start()

    @property
    def order(self) -> str:
        """How lines are to be sorted."""
        return self._order

    @property
    def room(self) -> int:
        """How many lines there is room for."""
        return max(1, self._console.height - LEDGER_LINES - MARGIN)

    def poll(self) -> bool:
        """Act on keys; returns whether the table should be drawn anew."""
        changed = [ORDERS[key] for key in self._keyboard.pressed() if key in ORDERS]
        if changed:
            self._order = changed[-1]
        return bool(changed)

    def show(self, take: Callable[[int, str], Snapshot]) -> None:
        """Draw what take(room, order) returns."""
        self._last = take(self.room, self._order)
        if self._live:
            self._live.update(render(self._last), refresh=True)

    def close(self) -> None:
        """Leave the terminal as it was, the last table on it."""
        if self._live:
            self._live.stop()
        self._keyboard.close()
        if self._last:
            self._console.print(render(self._last))
