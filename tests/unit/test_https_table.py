"""The README's table of TLS libraries has what the tests found, and nothing that they no longer find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e import https_table
from e2e.https_peers import NOT_RUN, PEERS
from e2e.https_table import MARK, README, Found, merged, table

if TYPE_CHECKING:
    from pathlib import Path

A, B, C, GONE = (Found(name, "shared", "C", "client", name.lower(), "seen") for name in ("A", "B", "C", "Gone"))
KINDS = [one[:3] for one in (A, B, C)]


def names(text: str) -> list[str]:
    return [line.split(" | ")[0].strip("| ") for line in text.splitlines()[2:]]


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_row_that_no_test_makes_is_dropped(is_whole: bool) -> None:
    text = merged(table([GONE, B, A]), table([A, C]), KINDS, is_whole=is_whole)
    assert names(text) == ["A", "B", "C"]


def test_a_row_whose_test_was_skipped_is_marked() -> None:
    """Once, however often; and no more once it was run."""
    old = table([A, B])
    for _ in range(2):
        old = merged(old, table([A]), KINDS, is_whole=True)
        assert [line for line in old.splitlines() if MARK in line] == [
            f"| B | shared | C | seen | not tested | b{MARK} |"
        ]
    assert merged(old, table([A]), KINDS, is_whole=False) == old
    assert merged(old, table([B]), KINDS, is_whole=False) == table([A, B])


def test_a_part_of_the_tests_leaves_other_rows_as_they_are() -> None:
    other = B._replace(word="not seen")
    assert merged(table([A, B, C]), table([other]), KINDS, is_whole=False) == table([A, other, C])


def test_written_twice_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(README.read_text())
    found = [Found(*peer.kind, peer.role, peer.name, peer.expected) for peer in PEERS]
    for _ in range(2):
        https_table.write(table(found), path, is_whole=True)
        assert path.read_text().count(NOT_RUN[0][1]) == 1
        assert MARK not in path.read_text()


def test_the_readme_has_a_row_for_each_kind() -> None:
    text = README.read_text().partition(https_table.BEGIN)[2].partition(https_table.END)[0].strip()
    kinds = [peer.kind for peer in PEERS] + [kind for kind, _ in NOT_RUN]
    assert list(https_table._rows(text)) == list(dict.fromkeys(tuple(kind) for kind in kinds))
