"""Runs the tests of TLS libraries, and makes the README's table of what they have found: `scripts/https [--write]`.

What else is given goes to pytest: of `-k Go` the rows that it tests are written anew, and the others stay. Rows that no
test makes any more go; those whose tests were all left out of a whole run are marked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .https_peers import NOT_RUN, PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BEGIN, END = "<!-- https: written by scripts/https -->", "<!-- end of https -->"
ROLES = ("client", "server")
HEAD_LINES, MARK = 2, ", not in the last run"
TITLES = ("library", "linkage", "used by", "client", "server", "tested with")


class Found(NamedTuple):
    """What a test has found of one program."""

    library: str
    linkage: str
    language: str
    role: str
    program: str
    word: str


def run(junit: Path, more: list[str]) -> int:
    """Run the tests; returns pytest's status."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        f"--junitxml={junit}",
        "-ojunit_family=xunit1",
        "tests/e2e/test_https_peers.py",
        *more,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def read(junit: Path) -> list[Found]:
    """Read what the tests that passed have left."""
    found = []
    for case in ET.parse(junit).iter("testcase"):
        if case.find("failure") is None and case.find("error") is None:
            found += [Found(*json.loads(one.attrib["value"])) for one in case.iter("property")]
    return found


def table(found: list[Found]) -> str:
    """Return the table as Markdown, in the order of the tests."""
    rows: dict[tuple[str, str, str], list[Found]] = defaultdict(list)
    for one in found:
        rows[one[:3]].append(one)
    lines = [_row(TITLES), "|" + " --- |" * len(TITLES)]
    for kind, some in rows.items():
        words = {one.role: one.word for one in some}
        programs = ", ".join(dict.fromkeys(one.program for one in some))
        lines.append(_row([*kind, *(words.get(role, "not tested") for role in ROLES), programs]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def merged(old: str, new: str, kinds: Sequence[tuple[str, ...]], *, is_whole: bool) -> str:
    """Put a table's rows in the place of another's, those of these kinds in their order.

    `is_whole`: the new one is of all tests; a row that it lacks is of tests that were skipped, which is said.
    """
    before, now = _rows(old), _rows(new)
    rows = [now.get(kind) or _kept(before[kind], is_whole=is_whole) for kind in kinds if kind in before | now]
    return "\n".join([*new.splitlines()[:HEAD_LINES], *rows])


def _rows(text: str) -> dict[tuple[str, ...], str]:
    return {tuple(line.strip("| ").split(" | ")[:3]): line for line in text.splitlines()[HEAD_LINES:]}


def _kept(line: str, *, is_whole: bool) -> str:
    bare = line.removesuffix(f"{MARK} |").removesuffix(" |")
    return f"{bare}{MARK} |" if is_whole or line.endswith(f"{MARK} |") else line


def with_those_not_run(text: str) -> str:
    """Add the rows of what there are no tests of, and why."""
    return "\n".join([text, *(_row([*kind, "not run", "not run", why]) for kind, why in NOT_RUN)])


def write(text: str, path: Path = README, *, is_whole: bool) -> None:
    """Put the table where the README has it."""
    before, _, rest = path.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    kinds = list(dict.fromkeys(peer.kind for peer in PEERS))
    table_of_all = with_those_not_run(merged(old.strip(), text, kinds, is_whole=is_whole))
    path.write_text(f"{before}{BEGIN}\n{table_of_all}\n{END}{after}")


def main() -> int:
    """Print the table; with --write, put it into the README if all tests have passed."""
    more = [word for word in sys.argv[1:] if word != "--write"]
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        status = run(junit, more)
        text = table(read(junit))
    print(text)
    if "--write" in sys.argv[1:] and not status:
        write(text, is_whole=not more)
    return status


if __name__ == "__main__":
    sys.exit(main())
