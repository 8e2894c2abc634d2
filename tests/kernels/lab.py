"""Which kernels, which captures; runs the guests, two at a time, and reads what they leave."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from peers import build

from .image import Kernel
from .machine import HERE, Guest, GuestFailed, run_in
from .packages import Source, folder
from .roots import ROOT, root_of

GUEST = Path(__file__).with_name("guest.sh")
SKIPPED = "program runs the kernel skipped"
CAPTURES = ("fentry", "kprobe", "syscall")
PEERS = ("nginx", "uring")
HTTPS_PEERS = ("aiohttp", "node", "tls-go", "tls-rust", "tls-java", "gnutls-serv")
AT_ONCE, TIMEOUT_SECONDS = 2, 1200.0  # for each capture
KERNELS = (
    Kernel("newest", Source(("trixie", "trixie-backports"), "amd64")),
    Kernel("6.12 arm64", Source(("trixie",), "arm64")),
    Kernel("6.12", Source(("trixie", "trixie-security"), "amd64")),
    Kernel("6.1", Source(("bookworm", "bookworm-security"), "amd64")),
    Kernel("5.10", Source(("bullseye", "bullseye-security"), "amd64")),
)
Cells = dict[str, tuple[str, ...]]
ALL: Cells = {one.name: CAPTURES for one in KERNELS}
# Each kernel and each capture, where it is most likely to go wrong: copies of programs, breakpoints by the function.
SHORT: Cells = {
    "newest": ("fentry",),
    "6.12 arm64": ("kprobe",),
    "6.12": ("syscall",),
    "6.1": ("kprobe",),
    "5.10": ("fentry",),
}


@dataclass
class Cell:
    """A capture under a kernel: how many tests passed, and what of those that did not."""

    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    ledger: str = ""

    @property
    def works(self) -> bool:
        return self.passed > 0 and not self.failed and not self.left_out

    @property
    def skipped_runs(self) -> bool:
        """Whether runs of programs were lost to the kernel, and that was counted."""
        return SKIPPED in self.ledger

    @property
    def wrong(self) -> dict[str, str]:
        """What failed otherwise than by rows that are missing, where runs were skipped."""
        missing = re.compile(r"there, and not expected:\s+none\s*$")
        return {name: text for name, text in self.failed.items() if not (self.skipped_runs and missing.search(text))}


@dataclass(frozen=True)
class Result:
    """What a guest left."""

    kernel: Kernel
    output: str
    seconds: float
    cells: dict[str, Cell]


def _cell(path: Path) -> Cell:
    ledger = path.with_suffix(".ledger")
    cell = Cell(ledger=ledger.read_text() if ledger.exists() else "")
    if not path.exists():
        return cell
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        bad = [one for kind in ("failure", "error") if (one := case.find(kind)) is not None]
        left_out = case.find("skipped")
        if bad:
            cell.failed[name] = (bad[0].text or bad[0].get("message") or "")[-2000:]
        elif left_out is not None:
            cell.left_out[name] = left_out.get("message") or ""
        else:
            cell.passed += 1
    return cell


def run_kernel(kernel: Kernel, captures: Sequence[str]) -> Result:
    """Run a guest with the tests of these captures; what fails is run once more, in a guest anew; raises LabUnavailable.

    Two emulated machines at once make calls a thousand times slower now and then: more than time limits allow for. And
    the emulator runs an instruction that its other processor is patching: what the kernel then meets (int3) ends it.
    """
    try:
        first = _run(kernel, captures)
    except GuestFailed as error:
        print(f"once more: {error}", file=sys.stderr)
        first = _run(kernel, captures)
    again = [one for one, cell in first.cells.items() if not cell.works]
    if not again:
        return first
    second = _run(kernel, again)
    output = f"{first.output}\n== once more\n{second.output}"
    return Result(kernel, output, first.seconds + second.seconds, first.cells | second.cells)


def is_foreign(kernel: Kernel) -> bool:
    """Whether it is of another architecture than this machine's (which is taken for x86_64)."""
    return kernel.architecture == "arm64"


def guest_for(kernel: Kernel) -> Guest:
    """Return where commands find themselves: of another architecture, the peers are built there anew."""
    if not is_foreign(kernel):
        return HERE
    return Guest({"RINGSPAN_TEST_CACHE": "/tmp/cache"}, root_of(kernel.source), [ROOT])


def _run(kernel: Kernel, captures: Sequence[str]) -> Result:
    results = folder("results", kernel.name.replace(" ", "-"))
    for old in (*results.glob("*.xml"), *results.glob("*.ledger")):
        old.unlink()
    command = [str(GUEST), "/usr/bin/python3" if is_foreign(kernel) else sys.executable, *captures]
    ran = run_in(kernel, command, timeout=TIMEOUT_SECONDS * len(captures), guest=guest_for(kernel), results=results)
    return Result(kernel, ran.output, ran.seconds, {one: _cell(results / f"{one}.xml") for one in captures})


def start_all(cells: Cells) -> dict[str, Future[Result]]:
    """Start all guests, some at a time; returns what will be their results."""
    for name in (*PEERS, *HTTPS_PEERS):
        build.ensure(name)  # in a guest nothing can be written here
    pool = ThreadPoolExecutor(AT_ONCE)
    return {kernel.name: pool.submit(run_kernel, kernel, cells[kernel.name]) for kernel in KERNELS}
