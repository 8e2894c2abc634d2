"""Runs the tests of TLS libraries, and makes the README's table of what they have found: `scripts/https [--write]`.

What else is given goes to pytest: of `-k Go` the rows that it tests are written anew, and the others stay.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BEGIN, END = "<!-- https: written by scripts/https -->", "<!-- end of https -->"
ROLES = ("client", "server")
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
    lines = ["| " + " | ".join(TITLES) + " |", "|" + " --- |" * len(TITLES)]
    for kind, some in rows.items():
        words = {one.role: one.word for one in some}
        programs = ", ".join(dict.fromkeys(one.program for one in some))
        lines.append("| " + " | ".join([*kind, *(words.get(role, "not tested") for role in ROLES), programs]) + " |")
    return "\n".join(lines)


def merged(old: str, new: str) -> str:
    """Put a table's rows in the place of another's of the same kind; those that it lacks come last."""
    rows = {_kind(line): line for line in old.splitlines()}
    return "\n".join((rows | {_kind(line): line for line in new.splitlines()}).values())


def _kind(line: str) -> tuple[str, ...]:
    return tuple(line.split(" | ")[:3])


def write(text: str, path: Path = README) -> None:
    """Put the table where the README has it."""
    before, _, rest = path.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{merged(old.strip(), text)}\n{END}{after}")


def main() -> int:
    """Print the table; with --write, put it into the README if all tests have passed."""
    more = [word for word in sys.argv[1:] if word != "--write"]
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        status = run(junit, more)
        text = table(read(junit))
    print(text)
    if "--write" in sys.argv[1:] and not status:
        write(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
