"""The program compiles and passes the verifier, with each set of flags that it may be given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import missing
from ringspan.probe.child import ATTACHED, RUN_BY_US, TAIL_CALLED

from .build_program import VARIANTS

TESTS = Path(__file__).parents[1]
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.mark.parametrize("variant", VARIANTS)
def test_builds(variant: str) -> None:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    command = [sys.executable, "-m", "kernel.build_program", variant]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    programs = len(TAIL_CALLED) + len(ATTACHED) + len(RUN_BY_US)
    assert done.stdout.strip() == ("compiled" if variant == "arm64" else f"loaded {programs}")
