"""The live table: a terminal of any width, sorted as asked by a key."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
LEDGER_LINES, MARGIN = 7, 3


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


def columns(width: int) -> list[str]:
    """Return what there is room for: on a narrow terminal the endpoint keeps its own."""
    left_out = {"Method", "p50", "p95", "Process"} if width < 60 else {"Process"} if width < 76 else set()
    return [name for name in COLUMNS if name not in left_out]


def cells(line: Line) -> dict[str, str]:
    """Print a line, by column."""
    key = line.key
    times = [duration(value) for value in (line.p50, line.p95, line.p99)]
    method = f"{key.method} tls" if key.tls else key.method
    texts = [key.endpoint, method, str(key.status), str(line.count), str(line.errors), *times, key.process]
    return dict(zip(COLUMNS, texts, strict=True))


def render(snapshot: Snapshot, width: int) -> Group:
    """Lay a snapshot out for so many columns."""
    head = header(snapshot)
    for text in head:
        text.no_wrap, text.overflow = True, "ellipsis"
    shown = columns(width)
    table = Table(box=None, pad_edge=False, expand=True, header_style="bold")
    for name in shown:
        table.add_column(
            name,
            justify="right" if name in RIGHT else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name == "Endpoint" else None,
            max_width=PROCESS_WIDTH if name == "Process" else None,
        )
    for line in snapshot.lines:
        texts = cells(line)
        table.add_row(*(Text(texts[name]) for name in shown), style=style_of(line))
    left = snapshot.total - len(snapshot.lines)
    foot = f"by {snapshot.order}" + (f", {left:,} more" if left > 0 else "")
    foot += "; sort by c count, e errors, l latency, n name"
    return Group(*head, table, Text(foot, style="dim", no_wrap=True, overflow="ellipsis"))


def in_foreground() -> bool:
    """Whether the terminal is ours: a job in the background must leave it alone."""
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


class TableView:
    """Keeps a table on a terminal's other screen, and leaves the last one on the first; elsewhere it prints each."""

    def __init__(self) -> None:
        self._console = Console()
        self._order = ORDERS["c"]
        self._last: Snapshot | None = None
        self._keyboard = Keyboard()
        ours = self._console.is_terminal and in_foreground()
        self._live = Live(console=self._console, auto_refresh=False, screen=True) if ours else None
        if self._live:
            self._live.start()
            signal.signal(signal.SIGTSTP, self._suspend)

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
        drawn = render(self._last, self._console.width)
        if self._live:
            self._live.update(drawn, refresh=True)
        else:
            self._console.print(drawn)

    def close(self) -> None:
        """Leave the terminal as it was, the last table on it; one that is gone is left alone."""
        with suppress(OSError, ValueError):
            self._keyboard.close()
            if self._live:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
                self._live.stop()
            if self._live and self._last:
                self._console.print(render(self._last, self._console.width))

    def _suspend(self, number: int, _frame: Any) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when we are continued."""
        if not self._live:
            return
        self._live.stop()
        self._keyboard.close()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)  # continued
        self._keyboard = Keyboard()
        self._live.start()
