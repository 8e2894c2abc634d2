"""Under each kernel that is to be had, each capture passes the tables of cases, and sees all that nginx logs."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from .lab import ALL, KERNELS, SHORT, Result, start_all
from .machine import Guest, GuestFailed, missing, run_in
from .packages import LabUnavailable
from .table import differences, written

WANTED = os.environ.get("RINGSPAN_KERNELS", "short")  # all: forty minutes; none
CELLS = ALL if WANTED == "all" else SHORT
reason = missing() or ("RINGSPAN_KERNELS=none" if WANTED == "none" else "")
pytestmark = [pytest.mark.kernels, pytest.mark.skipif(bool(reason), reason=f"NO KERNEL LAB: {reason}")]
Results = dict[str, "Future[Result]"]
CASES_AT_LEAST = 230
LOCKED_DOWN = "6.1"


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    started = start_all(CELLS)
    yield started
    for one in started.values():
        one.cancel()


def result_of(results: Results, name: str) -> Result:
    try:
        return results[name].result()
    except GuestFailed as error:
        pytest.fail(str(error), pytrace=False)
    except LabUnavailable as error:
        pytest.skip(f"NO KERNEL LAB: {error}")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kernel", "capture"), [(name, capture) for name in CELLS for capture in CELLS[name]])
def test_capture_under_kernel(kernel: str, capture: str, results: Results) -> None:
    result = result_of(results, kernel)
    cell = result.cells[capture]
    assert not cell.wrong, "\n".join(f"{name}: {text}" for name, text in cell.wrong.items())[-8000:]
    assert cell.passed + len(cell.failed) >= CASES_AT_LEAST, result.output[-4000:]
    assert not cell.left_out


AUTO = shlex.join(
    [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e/test_auto.py", "-k", "auto_is"]
)

DOCTOR = shlex.join([sys.executable, "-m", "ringspan.cli", "doctor"])


def in_guest(script: str, words: str = "") -> str:
    kernel = next(one for one in KERNELS if one.name == LOCKED_DOWN)
    guest = Guest({"RINGSPAN_TEST_SLOWNESS": "8"}, words=words)
    return run_in(kernel, ["sh", "-c", script], timeout=600, guest=guest).output


@pytest.mark.timeout(1800)
def test_lockdown_integrity_takes_away_no_capture(results: Results) -> None:
    """There kprobes and reading memory by BPF are still allowed; what `auto` takes is what doctor says."""
    result_of(results, LOCKED_DOWN)
    said = in_guest(f"cat /sys/kernel/security/lockdown; exec {AUTO}", "lockdown=integrity")
    assert "[integrity]" in said
    assert "1 passed" in said, said[-4000:]


@pytest.mark.timeout(1800)
def test_lockdown_confidentiality_is_named(results: Results) -> None:
    result_of(results, LOCKED_DOWN)
    trace = shlex.join([sys.executable, "-m", "ringspan.cli", "trace", "--show", "json", "--port", "15000"])
    said = in_guest(f"{DOCTOR} | grep lockdown; {trace} </dev/null 2>&1; echo status $?", "lockdown=confidentiality")
    why = "lockdown: confidentiality; lockdown=confidentiality forbids BPF to read kernel memory"
    assert said.splitlines() == [f"NO  {why}", f"ringspan: cannot trace here: {why}", "status 3"]


@pytest.mark.timeout(1800)
def test_where_functions_cannot_be_traced_system_calls_are(results: Results) -> None:
    result_of(results, LOCKED_DOWN)
    said = in_guest(f"echo 0 > /proc/sys/kernel/ftrace_enabled; {DOCTOR} | grep capture; exec {AUTO}")
    found = re.findall(r"^(\w+) +capture \w+ \((.+?)\): (\w+)", said, re.MULTILINE)
    assert found == [("no", "fentry", "not"), ("no", "kprobe", "not"), ("ok", "raw tracepoints", "available")]
    assert "1 passed" in said, said[-4000:]


@pytest.mark.timeout(1800)
def test_the_table_in_the_readme_is_what_was_found(results: Results) -> None:
    found = [result_of(results, one.name) for one in KERNELS]
    assert not [difference for one in found for difference in differences(one, written())]
