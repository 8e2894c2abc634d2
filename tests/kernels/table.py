"""The README's table of kernels and captures, made from what the guests left."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .lab import CAPTURES, Cell, Result
from .roots import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- kernels: written by scripts/kernels -->", "<!-- end of kernels -->"
ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}


def _word(cell: Cell) -> str:
    if not cell.passed:
        return "not run"
    if cell.works:
        return "all pass"
    return "fails" if cell.wrong or cell.left_out else "right, but loses some; counted"


def row(result: Result) -> str:
    """Return a kernel's row."""
    return f"{_kernel(result)}{' | '.join(_word(result.cells[one]) for one in CAPTURES)} |"


def _kernel(result: Result) -> str:
    return f"| {_version(result)} | {ARCHITECTURES[result.kernel.architecture]} | "


def table(results: Iterable[Result]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| Linux | architecture | " + " | ".join(f"`{one}`" for one in CAPTURES) + " |",
        "| --- | --- |" + " --- |" * len(CAPTURES),
    ]
    order = sorted(results, key=lambda one: ([int(n) for n in _version(one).split(".")], one.kernel.architecture))
    return "\n".join([*lines, *map(row, order)])


def differences(result: Result, text: str) -> list[str]:
    """Return of which captures a table says otherwise for this kernel; one newer than the table it does not name."""
    line = next((line for line in text.splitlines() if line.startswith(_kernel(result))), "")
    words = dict(zip(CAPTURES, line.removeprefix(_kernel(result)).strip(" |").split(" | "), strict=False))
    return [f"{line}: {capture}" for capture, cell in result.cells.items() if line and words[capture] != _word(cell)]


def _version(result: Result) -> str:
    found = re.match(r"\d+\.\d+", result.kernel.release)
    return found[0] if found else result.kernel.release


def written(path: Path = README) -> str:
    """Return the table that stands in the README."""
    return path.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def write(text: str, path: Path = README) -> None:
    """Put a table where the README has it."""
    before, _, rest = path.read_text().partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
