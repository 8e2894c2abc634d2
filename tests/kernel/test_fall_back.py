"""A capture that cannot be attached, though the kernel has taken its programs, leaves nothing; the next is taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import missing
from ringspan.probe import captures

TESTS = Path(__file__).parents[1]
ALL = set(captures.SYSCALL.tracepoints) - set(captures.SYSCALL.optional)
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]


def attach(place: str, kind: str) -> dict[str, Any]:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    command = [sys.executable, "-m", "kernel.fall_back", place, kind]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["places"]) >= ALL
    assert found["links"] <= len(found["places"])  # perf events, which some kernels want, are none
    return found


def test_the_next_capture_is_taken_and_the_first_let_go_of() -> None:
    found = attach("no_such_place", "needed")
    assert (found["how"], found["approved"]) == ("raw tracepoints", 2)
    assert found["why not"] == ["the first: cannot attach to no_such_place: No such file or directory"]


def test_a_place_that_is_optional_is_done_without() -> None:
    found = attach("no_such_place", "optional")
    assert (found["how"], found["approved"], found["why not"]) == ("the first", 1, [])
    assert "no_such_place" not in found["places"]
