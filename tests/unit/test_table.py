"""The table: what it shows, at any width, of anything a peer may send."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ringspan.counts import Counts
from ringspan.view.table import Snapshot, duration, render

from .rows import CLIENT, batch


def snapshot(counts: Counts, room: int = 10, order: str = "count") -> Snapshot:
    return Snapshot(
        lines=counts.top(room, order), total=len(counts), order=order, per_second=1234, lost=5, cpu=0.1,
        failed_connects={"refused": 3}, ledger=["ledger exchanges: seen 9 = recorded 9"], resident_bytes=66 << 20,
    )  # fmt: skip


def printed(shown: Snapshot, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(render(shown, width))
    return console.file.getvalue().splitlines()


def many(count: int) -> Counts:
    counts = Counts()
    targets = [b"/endpoint/number/%d" % i for i in range(count)]
    counts.add(batch(*({"target": one, "target_bytes": len(one)} for i, one in enumerate(targets))))
    return counts


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = printed(snapshot(many(30)), width)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert len(lines) == 3 + 1 + 10 + 1


def test_all_columns_fit_into_eighty() -> None:
    counts = Counts()
    counts.add(batch(*[{"target": b"/api/users", "status": 503, "method": b"DELETE"}] * 1000))
    row = next(line for line in printed(snapshot(counts), 80) if "/api/users" in line)
    assert row.split() == ["/api/users", "DELETE", "503", "1000", "1000", "2.3ms", "2.3ms", "2.3ms", "tester"]


def test_https_is_counted_apart_and_marked() -> None:
    counts = Counts()
    one = {"target": b"/api/users"}
    counts.add(batch(one, {**one, "tls": 1}, {**one, "tls": 1}))
    found = [line.split()[:4] for line in printed(snapshot(counts), 80) if "/api/users" in line]
    assert found == [["/api/users", "GET", "tls", "200"], ["/api/users", "GET", "200", "1"]]


def test_a_narrow_terminal_keeps_the_endpoint() -> None:
    counts = Counts()
    counts.add(batch({"target": b"/api/users", "status": 503}))
    row = next(line for line in printed(snapshot(counts), 40) if "/api" in line)
    assert row.split() == ["/api/users", "503", "1", "1", "2.3ms"]


def test_the_header_says_rate_losses_cost_and_failed_connects() -> None:
    head = printed(snapshot(many(1)), 120)[:2]
    assert head[0].split() == ["1,234", "requests/s", "ringspan:", "10.0", "%", "CPU,", "66", "MB", "lost", "5"]
    assert head[1].strip() == "failed connects: refused 3"


def test_what_does_not_fit_is_counted() -> None:
    assert printed(snapshot(many(10_000)), 120)[-1].startswith("by count, 9,990 more")


def test_markup_and_escapes_are_shown_not_done() -> None:
    counts = Counts()
    counts.add(batch({"target": b"/[red]x[/red]\x1b[31m\xe2\x80\xae", **CLIENT}))
    text = "\n".join(printed(snapshot(counts), 120))
    assert "/[red]x[/red]\\x1b[31m\\u202e" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0us"),
        (0.0000312, "31us"),
        (0.0021, "2.1ms"),
        (0.053, "53ms"),
        (0.9994, "999ms"),
        (1.26, "1.3s"),
        (600, "10m"),
    ],
)
def test_durations_in_few_characters(seconds: float, said: str) -> None:
    assert duration(seconds) == said
